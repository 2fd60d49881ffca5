"""Metrics against scikit-learn and closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from convsmith.analysis import Evaluation, evaluate
from convsmith.errors import DataError

NAMES = tuple("abcdefgh")


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 400 images over 8 classes; class 6 has no image and class 7 is never predicted."""
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 1, 2, 3, 4, 5, 7], 400)
    logits = rng.normal(size=(400, 8)).astype(np.float32)
    logits[np.arange(400), labels] += 1.5
    logits[:, 7] -= 20
    return logits, labels.astype(np.int64)


def test_accuracy_and_confusion_equal_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    result = evaluate(logits, labels, NAMES)
    predicted = logits.argmax(axis=1)
    assert result.n == 400
    assert result.top1 == pytest.approx((predicted == labels).mean())
    assert result.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(8)))
    np.testing.assert_array_equal(result.confusion, confusion_matrix(labels, predicted, labels=range(8)))


def test_class_scores_equal_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    result = evaluate(logits, labels, NAMES)
    expected = precision_recall_fscore_support(labels, logits.argmax(axis=1), labels=range(8), zero_division=0)
    got = [(score.precision, score.recall, score.f1, score.support) for score in result.per_class]
    np.testing.assert_allclose(np.array(got).T, np.array(expected), rtol=1e-12)
    assert result.per_class[6].support == 0 and result.per_class[6].recall == 0
    assert result.per_class[7].precision == 0
    assert result.macro_f1 == pytest.approx(np.delete(expected[2], 6).mean())


def test_log_loss_equals_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = sample
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    assert evaluate(logits, labels, NAMES).log_loss == pytest.approx(log_loss(labels, p, labels=range(8)), rel=1e-9)


def test_equal_scores_go_to_the_lower_class() -> None:
    result = evaluate(np.zeros((7, 7), np.float32), np.arange(7), [str(i) for i in range(7)])
    assert result.top1 == pytest.approx(1 / 7)
    assert result.top5 == pytest.approx(5 / 7)


def test_mistakes_are_the_most_confident_first() -> None:
    logits = np.array([[3.0, 0], [0, 1], [5, 0], [0, 9], [1, 0]])
    result = evaluate(logits, np.array([1, 1, 1, 0, 0]), ["x", "y"], mistakes=2)
    assert [(m.index, m.true, m.predicted) for m in result.mistakes] == [(3, 0, 1), (2, 1, 0)]
    assert result.mistakes[0].confidence == pytest.approx(1 / (1 + np.exp(-9)))


def test_huge_logits_do_not_overflow() -> None:
    result = evaluate(np.array([[1e30, 0], [0, 3e38]], np.float32), np.array([0, 1]), ["x", "y"])
    assert result.log_loss == 0 and result.top1 == 1


def test_survives_json(sample: tuple[np.ndarray, np.ndarray]) -> None:
    result = evaluate(*sample, NAMES, temperature=1.7)
    assert Evaluation.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
    assert Evaluation.from_dict(result.to_dict()) == result


@pytest.mark.parametrize(
    ("logits", "labels", "classes", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "abc", "there is no image to evaluate"),
        (np.zeros((2, 1)), np.zeros(2, int), "a", "at least 2 are needed"),
        (np.array([[0, 1], [np.nan, 1], [np.inf, 0]]), np.zeros(3, int), "ab", r"2 of 3 images are not finite \(first: image 1\)"),
        (np.zeros((2, 3)), np.array([0, 3]), "abc", "labels run from 0 to 3; with 3 classes they are 0 to 2"),
        (np.zeros((2, 3)), np.array([-1, 0]), "abc", "labels run from -1 to 0"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "abc", "labels are float64"),
        (np.zeros((2, 3)), np.array([0]), "abc", r"shape \(2, 3\) and labels \(1,\)"),
        (np.zeros((2, 3)), np.array([0, 1]), "ab", "2 class names for 3 logits"),
    ],
)
def test_says_what_is_wrong(logits: np.ndarray, labels: np.ndarray, classes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(logits, labels, classes)

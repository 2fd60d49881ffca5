"""The threshold below which no class is named."""

from __future__ import annotations

import numpy as np
import pytest

from convsmith.analysis import choose_threshold
from convsmith.errors import UsageError


def logits_of(confidences: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Two-class logits whose softmax has these confidences for class 0; the label is 0 where that is right."""
    p = np.array(confidences)
    return np.stack([np.log(p / (1 - p)), np.zeros(len(p))], 1), np.where(right, 0, 1)


def test_most_images_are_answered_with_enough_of_the_answers_right() -> None:
    logits, labels = logits_of([0.99, 0.9, 0.8, 0.7, 0.6], [True, True, True, False, False])
    found = choose_threshold(logits, labels, 0.75)
    assert found.threshold == pytest.approx(0.65) and found.answered == 0.8 and found.right == 0.75
    assert choose_threshold(logits, labels, 1.0).threshold == pytest.approx(0.75)
    assert choose_threshold(logits, labels, 0.6).threshold == 0
    with pytest.raises(UsageError, match=r"trust is 1\.5; it is a share of answers, from 0 to 1"):
        choose_threshold(logits, labels, 1.5)


def test_equal_confidences_are_answered_together() -> None:
    logits, labels = logits_of([0.9, 0.8, 0.8, 0.6], [True, True, False, False])
    assert choose_threshold(logits, labels, 1.0).answered == 0.25


def test_where_no_threshold_is_good_enough_the_best_answers_are_given() -> None:
    logits, labels = logits_of([0.9, 0.8, 0.7], [False, True, True])
    found = choose_threshold(logits, labels, 0.99)
    assert found.threshold == 0 and found.right == pytest.approx(2 / 3)


def test_brute_force_over_all_thresholds_finds_none_that_answers_more() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (300, 5)), rng.integers(0, 5, 300)
    labels = np.where(rng.random(300) < 0.7, logits.argmax(1), labels)
    for temperature in (0.7, 1.0, 2.0):
        found = choose_threshold(logits, labels, 0.85, temperature=temperature)
        powers = np.exp(logits / temperature)
        confidence, right = (powers / powers.sum(1, keepdims=True)).max(1), logits.argmax(1) == labels
        assert right[confidence >= found.threshold].mean() == pytest.approx(found.right) and found.right >= 0.85
        more = [t for t in confidence if (confidence >= t).mean() > found.answered and right[confidence >= t].mean() >= 0.85]
        assert more == []

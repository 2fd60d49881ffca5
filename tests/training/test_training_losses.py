"""Every loss against its closed form in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convsmith.errors import UsageError
from convsmith.training import Training
from convsmith.training.losses import class_weights, per_image

RNG = np.random.default_rng(3)
Z = RNG.normal(0, 3, (7, 5)).astype(np.float32)
Y = np.array([0, 1, 2, 3, 4, 4, 0])
W = np.array([0.5, 2.0, 1.0, 0.25, 3.0], np.float32)
ROWS = np.arange(7)
TOLERANCE = 1e-5
"""float32 of sums of five terms against float64."""


def measured(weights: np.ndarray | None = None, **fields) -> np.ndarray:
    tensor = None if weights is None else torch.from_numpy(weights)
    return per_image(torch.from_numpy(Z), torch.from_numpy(Y), Training(**fields), tensor).numpy()


def log_softmax() -> np.ndarray:
    z = Z.astype(np.float64)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_cross_entropy() -> None:
    np.testing.assert_allclose(measured(), -log_softmax()[ROWS, Y], rtol=TOLERANCE)


def test_cross_entropy_with_weights() -> None:
    np.testing.assert_allclose(measured(W), -W[Y] * log_softmax()[ROWS, Y], rtol=TOLERANCE)


def test_label_smoothing_spreads_the_target() -> None:
    target = np.full((7, 5), 0.2 / 5)
    target[ROWS, Y] += 0.8
    np.testing.assert_allclose(measured(label_smoothing=0.2), -(target * log_softmax()).sum(1), rtol=TOLERANCE)


def test_binary_cross_entropy() -> None:
    p, truth = 1 / (1 + np.exp(-Z.astype(np.float64))), np.eye(5)[Y]
    expected = -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(1)
    np.testing.assert_allclose(measured(loss="binary_cross_entropy"), expected, rtol=TOLERANCE)
    np.testing.assert_allclose(measured(W, loss="binary_cross_entropy"), expected * W[Y], rtol=TOLERANCE)


def test_squared_hinge() -> None:
    sign = 2 * np.eye(5)[Y] - 1
    expected = (np.maximum(0, 1 - sign * Z.astype(np.float64)) ** 2).mean(1)
    np.testing.assert_allclose(measured(loss="squared_hinge"), expected, rtol=TOLERANCE)


def test_balanced_weights_make_classes_equal_and_average_to_one() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = class_weights(Training(class_weights="balanced"), labels, 4)
    assert weights is not None
    # each class of n_c among N images in 3 classes that occur weighs N / (3 n_c); class 2 never occurs
    np.testing.assert_allclose(weights.numpy(), [10 / 18, 10 / 9, 0, 10 / 3], rtol=1e-6)
    assert weights[torch.from_numpy(labels)].mean().item() == pytest.approx(1, rel=1e-6)


def test_given_weights_are_scaled_to_the_mean_one() -> None:
    weights = class_weights(Training(class_weights=(1.0, 3.0)), np.array([0, 1]), 2)
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [0.5, 1.5])


def test_no_weights() -> None:
    assert class_weights(Training(), np.array([0, 1]), 2) is None


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="class_weights has 2 numbers for 3 classes; give one per class"):
        class_weights(Training(class_weights=(1.0, 2.0)), np.array([0, 1, 2]), 3)
    with pytest.raises(UsageError, match="must not be negative"):
        class_weights(Training(class_weights=(1.0, -2.0)), np.array([0, 1]), 2)

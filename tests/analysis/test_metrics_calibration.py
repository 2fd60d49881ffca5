"""Calibration against a naive loop, closed forms and scipy's minimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from convsmith.analysis import calibrate, chance_error, fit_temperature
from convsmith.errors import DataError, UsageError


def noisy(seed: int, scale: float, n: int = 600, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from their own softmax, then scaled: the best temperature is near ``scale``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    p = np.exp(log_softmax(logits, axis=1))
    labels = np.array([rng.choice(classes, p=row) for row in p])
    return (logits * scale).astype(np.float32), labels


def test_bins_equal_a_naive_loop() -> None:
    logits, labels = noisy(1, 2.0)
    result = calibrate(logits, labels, bins=10)
    p = np.exp(log_softmax(logits.astype(np.float64), axis=1))
    error = 0.0
    for index, part in enumerate(result.bins):
        inside = [i for i in range(len(labels)) if index / 10 < p[i].max() <= (index + 1) / 10]
        assert part.count == len(inside)
        if inside:
            right = sum(int(p[i].argmax() == labels[i]) for i in inside) / len(inside)
            mean = sum(p[i].max() for i in inside) / len(inside)
            assert part.accuracy == pytest.approx(right) and part.confidence == pytest.approx(mean)
            error += len(inside) / len(labels) * abs(right - mean)
    assert result.ece == pytest.approx(error)


def test_always_sure_and_half_right_is_off_by_half() -> None:
    logits = np.array([[1000.0, 0]] * 10)
    assert calibrate(logits, np.array([0, 1] * 5)).ece == pytest.approx(0.5)
    assert calibrate(logits, np.zeros(10, int)).ece == 0


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_equals_scipy(scale: float) -> None:
    logits, labels = noisy(2, scale)

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    best = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-8}).x)
    got = fit_temperature(logits, labels)
    assert got == pytest.approx(best, rel=1e-4)  # scipy compares losses, whose minimum is flat to about sqrt(eps)
    assert got == pytest.approx(scale, rel=0.2)  # 600 draws


def test_temperature_lowers_the_loss_and_keeps_the_predictions() -> None:
    logits, labels = noisy(5, 3.0)
    before, after = calibrate(logits, labels), calibrate(logits, labels, temperature=fit_temperature(logits, labels))
    assert after.log_loss < before.log_loss and after.ece < before.ece
    assert sum(b.count * b.accuracy for b in before.bins) == pytest.approx(sum(b.count * b.accuracy for b in after.bins))


def test_temperature_without_a_finite_optimum() -> None:
    assert fit_temperature(np.eye(3), np.arange(3)) == 1.0  # all right: colder is always better
    assert fit_temperature(np.array([[1.0, 0], [2.0, 0]]), np.array([1, 1])) == 20.0  # all wrong: hotter is always better


def test_says_what_is_wrong() -> None:
    with pytest.raises(DataError, match="there is no image to evaluate"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="both must be more than 0"):
            calibrate(np.eye(3), np.arange(3), temperature=temperature)


def test_chance_error_equals_what_exact_confidences_show() -> None:
    found = [calibrate(*noisy(seed, 1.0, n=150)) for seed in range(60)]
    seen, expected = np.mean([c.ece for c in found]), np.mean([chance_error(c) for c in found])
    assert expected == pytest.approx(seen, rel=0.15)  # bins of one or two images are not normal

"""How well features separate classes: cross-validated linear classifiers, and two scores in closed form."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Inverse regularisation of the logistic regression on standardised features; more only overfits a thousand features of few images."""


def cross_validated(
    features: Matrix, labels: Labels, mirrored: Matrix | None = None, *, kind: str = "logistic", seed: int = 0
) -> NDArray[np.float64]:
    """Return the accuracy of each fold of a stratified cross-validation of a linear classifier.

    Five folds, fewer where a class has fewer images. Mirror images join their originals in training and never cross a fold.
    ``kind``: ``logistic`` or ``svm``.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = max(2, min(5, int(np.bincount(labels)[np.unique(labels)].min())))
    found = []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels):
        model = classifier(kind)
        model.fit(*_joined(features, labels, mirrored, train))
        found.append(float((model.predict(features[test]) == labels[test]).mean()))
    return np.array(found)


def classifier(kind: str = "logistic", strength: float = 1e-2) -> Any:
    """Return an unfitted linear classifier on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if kind == "svm":
        return make_pipeline(StandardScaler(), LinearSVC(C=strength / 10, max_iter=5000))
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _joined(features: Matrix, labels: Labels, mirrored: Matrix | None, rows: NDArray[np.int64]) -> tuple[Matrix, Labels]:
    if mirrored is None:
        return features[rows], labels[rows]
    return np.concatenate([features[rows], mirrored[rows]]), np.concatenate([labels[rows], labels[rows]])


def linear_layer(
    features: Matrix, labels: Labels, classes: int, mirrored: Matrix | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights ``(classes, maps)`` and biases of the logistic regression whose strength does best in cross-validation.

    The standardisation is inside them. A class without images gets a bias that never wins.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = max(2, min(5, int(np.bincount(labels)[np.unique(labels)].min())))
    cuts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(features, labels))

    def right(strength: float) -> float:
        fitted = [(classifier(strength=strength).fit(*_joined(features, labels, mirrored, train)), test) for train, test in cuts]
        return float(np.mean([(model.predict(features[test]) == labels[test]).mean() for model, test in fitted]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a strength that does not converge is judged by what it gives
        best = max(STRENGTHS, key=right)
        model = classifier(strength=best).fit(*_joined(features, labels, mirrored, np.arange(len(labels))))
    scaler, regression = model[0], model[1]
    coefficients, intercepts = regression.coef_ / scaler.scale_, regression.intercept_
    intercepts = intercepts - coefficients @ scaler.mean_
    if len(coefficients) == 1:  # two classes: one number, half of it for each side
        coefficients, intercepts = np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    weight, bias = np.zeros((classes, features.shape[1]), np.float32), np.full(classes, intercepts.min() - 100, np.float32)
    weight[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    return weight, bias


def log_evidence(features: Matrix, labels: Labels) -> float:
    """Return LogME: the mean over classes of the largest log evidence per image of a Bayesian linear model of the one-hot labels.

    References: You, Liu, Wang, Long 2021, LogME, arXiv 2102.11005, equations 2 to 4 and algorithm 1, with the fixed point of its follow-up.
    """
    f = features.astype(np.float64)
    n, d = f.shape
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    sigma = s**2
    found = []
    for label in np.unique(labels):
        y = (labels == label).astype(np.float64)
        z2 = (u.T @ y) ** 2
        rest = float(y @ y - z2.sum())  # of y, what no combination of features explains
        alpha, beta = 1.0, 1.0
        for _ in range(100):
            t = alpha / beta
            gamma = float((sigma / (sigma + t)).sum())
            m2 = float((sigma * z2 / (t + sigma) ** 2).sum())
            error = float((z2 / (1 + sigma / t) ** 2).sum()) + rest
            alpha, beta = gamma / (m2 + 1e-12), (n - gamma) / (error + 1e-12)
            if abs(alpha / beta - t) <= 1e-5 * t:
                break
        t = alpha / beta
        m2 = float((sigma * z2 / (t + sigma) ** 2).sum())
        error = float((z2 / (1 + sigma / t) ** 2).sum()) + rest
        determinant = float(np.log(alpha + beta * sigma).sum()) + (d - len(sigma)) * np.log(alpha)
        evidence = 0.5 * (d * np.log(alpha) + n * np.log(beta) - n * np.log(2 * np.pi) - beta * error - alpha * m2 - determinant)
        found.append(evidence / n)
    return float(np.mean(found))


def shrunk_h_score(features: Matrix, labels: Labels) -> float:
    """Return the H-score tr(inv(cov f) cov(E[f|y])) with both covariances shrunk as Ledoit and Wolf: larger is better separated.

    References: Bao et al. 2019, An information-theoretic approach to transferability; Ibrahim, Ponomareva, Mazumder 2021, Newer is not
    always better, arXiv 2110.06893, definition 3.
    """
    from sklearn.covariance import ledoit_wolf

    f = features.astype(np.float64)
    f = f - f.mean(0)
    covariance, shrinkage = ledoit_wolf(f, assume_centered=True)
    means = np.zeros_like(f)
    for label in np.unique(labels):
        means[labels == label] = f[labels == label].mean(0)
    between = (1 - shrinkage) * means.T @ means / len(f)
    return float(np.trace(np.linalg.solve(covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)), between)))

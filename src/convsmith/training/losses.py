"""Losses of one batch, one number per image, so that parts of a batch and processes can be added up exactly."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.training.augmentation import Mixture
from convsmith.training.config import Training


def class_weights(config: Training, labels: NDArray[np.int64], classes: int) -> torch.Tensor | None:
    """Return the weight of each class, scaled so that the mean over the training images is 1; None where all are 1.

    ``balanced`` gives a class the inverse of its number of images; a class without images gets 0.
    """
    if config.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if config.class_weights == "balanced":
        weights = np.divide(1.0, counts, out=np.zeros(classes), where=counts > 0)
    elif len(config.class_weights) != classes:
        raise UsageError(f"class_weights has {len(config.class_weights)} numbers for {classes} classes; give one per class")
    else:
        weights = np.asarray(config.class_weights, np.float64)
    if (weights < 0).any() or (weights * counts).sum() <= 0:
        raise UsageError(f"class_weights {weights.tolist()} must not be negative, and one that has images must be above 0")
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def per_image(logits: torch.Tensor, labels: torch.Tensor, config: Training, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return the loss of every image, float32 ``(n,)``.

    ``binary_cross_entropy`` and ``squared_hinge`` treat the classes as independent yes-no questions and take the mean over them;
    the targets of ``squared_hinge`` are -1 and 1 (Tang 2013, arXiv:1306.0239).
    """
    logits = logits.float()
    if config.loss == "cross_entropy":
        return F.cross_entropy(logits, labels, weight=weights, label_smoothing=config.label_smoothing, reduction="none")
    truth = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    if config.loss == "binary_cross_entropy":
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
    else:
        losses = torch.clamp(1 - (2 * truth - 1) * logits, min=0).square().mean(1)
    return losses if weights is None else losses * weights[labels]


def distilled(losses: torch.Tensor, logits: torch.Tensor, teacher: torch.Tensor, config: Training) -> torch.Tensor:
    """Return the loss of every image with the share ``config.distil`` of it against the teacher's softened scores.

    The divergence of both softened answers times the squared temperature, so that its gradient keeps its size at any temperature.
    References: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
    """
    t = config.temperature
    student, wanted = F.log_softmax(logits.float() / t, 1), F.log_softmax(teacher.float() / t, 1)
    soft = F.kl_div(student, wanted, reduction="none", log_target=True).sum(1) * t * t
    return (1 - config.distil) * losses + config.distil * soft


def mixed_per_image(
    logits: torch.Tensor, labels: torch.Tensor, mixture: Mixture | None, config: Training, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of every image, that of a mixed one against both labels by their shares (Zhang et al. 2017, arXiv:1710.09412)."""
    losses = per_image(logits, labels, config, weights)
    if mixture is None:
        return losses
    return mixture.share * losses + (1 - mixture.share) * per_image(logits, labels[mixture.partner], config, weights)

"""Which part of a network the images ask to change: the gradients of its thirds in relation to their weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import losses
from convsmith.training.blocks import blocks, third_of
from convsmith.training.config import Training
from convsmith.training.feed import Feed
from convsmith.training.processes import Team
from convsmith.training.surroundings import settings
from convsmith.training.transfer import THIRDS, Third, Transfer
from convsmith.training.updates import Updater

BATCHES = 8


def relative_gradients(
    module: nn.Module, dataset: Dataset, config: Training, preprocess: Preprocess, *, count: int = BATCHES
) -> dict[Third, float]:
    """Return, for each third below the head, the mean over its blocks of the gradient's norm as a part of the weights' norm.

    The gradient is that of the loss on the first ``count`` batches of an epoch, without augmentation, norms in use as they are. The
    network is left as it was; its head should be a fitted one.

    References: Lee et al. 2022, Surgical fine-tuning improves adaptation to distribution shifts, arXiv 2210.11466, section 4 (Auto-RGN).
    """
    plain = config.model_copy(update={"transfer": Transfer(), "augment": type(config.augment)(), "drop_connect": 0.0, "resident": False})
    copied = copy.deepcopy(module).eval()
    with settings(plain):
        feed = Feed(dataset.train, preprocess, plain, Team())
        weights = losses.class_weights(plain, dataset.train.labels, len(dataset.classes))
        updater = Updater(copied, plain, preprocess, weights)
        for step in range(min(count, feed.steps_per_epoch)):
            for part in feed.read(step):
                logits, labels, _ = updater.forward(part)
                torch.autograd.backward(losses.per_image(logits, labels, plain, updater.weights).mean())
    body = blocks(copied, Transfer(strategy="full"))[:-1]
    found: dict[Third, list[float]] = {third: [] for third in THIRDS}
    for place, block in enumerate(body):
        parameters = [p for p in block.parameters if p.grad is not None and p.ndim > 1]
        if parameters:
            size = float(torch.stack([p.detach().norm() for p in parameters]).norm())
            grown = float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())
            found[THIRDS[third_of(place, len(body))]].append(grown / max(size, 1e-12))
    return {third: sum(values) / len(values) for third, values in found.items() if values}


def worst_third(module: nn.Module, dataset: Dataset, config: Training, preprocess: Preprocess) -> tuple[Third, str]:
    """Return the third whose weights the images pull at most, and why in one sentence."""
    found = relative_gradients(module, dataset, config, preprocess)
    third = max(found, key=lambda name: found[name])
    told = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
    return third, f"its gradient is the largest part of its weights ({told})"

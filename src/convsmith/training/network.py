"""Whether a network and the data belong together, asked before anything is timed."""

from __future__ import annotations

import torch
from torch import nn

from convsmith.data.preprocess import Preprocess
from convsmith.errors import DataError, UsageError
from convsmith.training.config import Training
from convsmith.training.scoring import logits_of


def device_of(config: Training) -> torch.device:
    """Return where the configuration computes; a GPU that is not there is refused."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is cuda, and torch sees no GPU; set device=cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def check_fits(module: nn.Module, preprocess: Preprocess, classes: int, images: int, config: Training) -> None:
    """Run two black images through the network and refuse it when it cannot read them or gives another number of scores.

    Raises: DataError without training images; UsageError otherwise.
    """
    if images == 0:
        raise DataError("the training split has no images; give it some, or a smaller val and test part")
    shape = (2, preprocess.height, preprocess.width, preprocess.channels)
    given = f"{shape[3]} channels of {shape[1]}x{shape[2]} pixels"
    try:
        logits = logits_of(module, [torch.zeros(shape, dtype=torch.uint8)], preprocess)
    except RuntimeError as error:
        raise UsageError(f"the network cannot read {given}: {error}") from error
    if logits.shape != (2, classes):
        found = "x".join(str(side) for side in logits.shape[1:])
        raise UsageError(f"the network gives {found} scores an image for {classes} classes; build it with classes={classes}")
    if config.batch == 1 and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        raise UsageError("online training (batch=1) needs a network without batch norm, which averages over a batch; give batch at least 2")

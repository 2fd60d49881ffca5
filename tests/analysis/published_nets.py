"""Reports of ImageNet networks, read once for all tests."""

from __future__ import annotations

from functools import cache

import torch

from convsmith import models
from convsmith.analysis import Report, analyse
from convsmith.interop import pytorch


@cache
def report(name: str) -> Report:
    """Return the cost for one 224 x 224 image; the weights are never set."""
    with torch.device("meta"):
        module = models.load(name, classes=1000, in_channels=3, input_size=(224, 224))
    return analyse(pytorch.read(module.to_empty(device="cpu"), (1, 3, 224, 224)))

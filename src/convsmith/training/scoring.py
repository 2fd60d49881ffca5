"""What a network answers: its scores for every image of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convsmith.data import batches
from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess
from convsmith.models.modes import in_evaluation
from convsmith.training.augmentation import to_input


def score(module: nn.Module, split: Split, preprocess: Preprocess, *, batch: int | None = None, workers: int = 0) -> NDArray[np.float32]:
    """Return the logits of every image in the split's order, float32 ``(n, classes)``.

    The network computes in float32 and evaluation mode and is left in the mode it was in; without images the result has no rows.
    ``batch``: images at a time, by default `fitting_batch`.
    """
    size = batch or fitting_batch(preprocess)
    images = (torch.from_numpy(x) for x, _, _ in batches(split, preprocess, size, workers=workers))
    return logits_of(module, images, preprocess).numpy()


def fitting_batch(preprocess: Preprocess) -> int:
    """Return how many images to score at a time: at most 256, and at most 4 million pixel values, since memory goes with them."""
    return max(1, min(256, 2**22 // (preprocess.height * preprocess.width * preprocess.channels)))


def logits_of(module: nn.Module, images: Iterable[torch.Tensor], preprocess: Preprocess, *, channels_last: bool = False) -> torch.Tensor:
    """Return the logits of batches of uint8 NHWC images, float32 ``(n, classes)`` on the processor."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with in_evaluation(module), torch.inference_mode():
        found = [module(to_input(x.to(device), preprocess, channels_last)).float().cpu() for x in images]
    return torch.cat(found) if found else torch.zeros(0, 0)


def slices(x_nhwc: torch.Tensor, batch: int) -> Iterator[torch.Tensor]:
    """Yield consecutive views of at most ``batch`` images."""
    for start in range(0, len(x_nhwc), batch):
        yield x_nhwc[start : start + batch]

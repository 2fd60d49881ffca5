"""Loss and accuracy on the validation images, while a run goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from convsmith.data import batches, pixels
from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess
from convsmith.training.config import Training
from convsmith.training.feed import fits, pixel_bytes
from convsmith.training.losses import per_image
from convsmith.training.processes import Team
from convsmith.training.scoring import fitting_batch, logits_of, slices


class Validation:
    """The validation images of this process, decoded once where they fit into memory."""

    def __init__(self, split: Split, preprocess: Preprocess, config: Training, weights: torch.Tensor | None, team: Team) -> None:
        self.split, self.preprocess, self.config, self.team = split, preprocess, config, team
        self.weights = None if weights is None else weights.cpu()
        n = len(split)
        self.start, self.stop = n * team.rank // team.size, n * (team.rank + 1) // team.size
        self.x_nhwc = torch.from_numpy(pixels(split, preprocess, workers=config.workers)) if fits(pixel_bytes(split, preprocess)) else None

    def measure(self, module: nn.Module, *, channels_last: bool) -> tuple[float, float]:
        """Return mean loss and accuracy of the network in evaluation mode and float32, over all processes."""
        size = fitting_batch(self.preprocess)
        if self.x_nhwc is not None:
            images = slices(self.x_nhwc[self.start : self.stop], size)
        else:
            order = np.arange(self.start, self.stop)
            stream = batches(self.split, self.preprocess, size, order=order, workers=self.config.workers)
            images = (torch.from_numpy(x) for x, _, _ in stream)
        sums = torch.zeros(2, dtype=torch.float64)
        if self.stop > self.start:
            logits = logits_of(module, images, self.preprocess, channels_last=channels_last)
            labels = torch.from_numpy(np.array(self.split.labels[self.start : self.stop]))
            sums[0] = per_image(logits, labels, self.config, self.weights).double().sum()
            sums[1] = (logits.argmax(1) == labels).sum()
        loss, right = (self.team.total(sums) / len(self.split)).tolist()
        return loss, right

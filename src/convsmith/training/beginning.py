"""What a network takes from the training images before its first update."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from convsmith.data import batches, normalise, spread
from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.models.speednet import SpeedNet

IMAGES = 1000


def begin(network: nn.Module, dataset: Dataset, preprocess: Preprocess, *, workers: int = 0) -> bool:
    """Whiten the patches of a speednet on up to 1,000 training images, evenly spread; False, and nothing done, for every other."""
    if not isinstance(network, SpeedNet):
        return False
    rows = spread(len(dataset.train), IMAGES)
    parts = [normalise(x, preprocess) for x, _, _ in batches(dataset.train, preprocess, 256, order=rows, workers=workers)]
    network.whiten(torch.from_numpy(np.concatenate(parts)))
    return True

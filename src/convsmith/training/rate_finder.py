"""The learning rate range test: updates at a rising rate on a copy of the network, until the loss leaves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.training import losses
from convsmith.training.config import Training
from convsmith.training.feed import Feed
from convsmith.training.network import check_fits, device_of
from convsmith.training.processes import Team
from convsmith.training.surroundings import settings
from convsmith.training.updates import Updater

SMOOTHING = 0.9
GONE = 4.0
"""How many times the lowest loss ends the test."""

FEWEST = 10


@dataclass(frozen=True)
class RateSearch:
    """What the test saw. ``smoothed``: running mean of the losses; ``lowest``: the rate where it is least; ``steepest``: where it
    falls fastest; ``chosen``: a tenth of the first, but no less than the second.

    ``left``: the rate at which the loss left, None where it did not up to the highest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    chosen: float
    lowest: float
    steepest: float
    left: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_rate(
    module: nn.Module,
    dataset: Dataset,
    config: Training,
    preprocess: Preprocess,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    updates: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> RateSearch:
    """Return a learning rate for a schedule's highest: a tenth of that with the lowest loss, which is on the brink of leaving.

    ``updates`` batches are read in the order of training, with its augmentation, optimizer and strategy; the network and torch's
    generator are left as they were. The test ends early where the loss is four times the lowest or no number.

    References: Smith 2015, Cyclical learning rates for training neural networks, arXiv 1506.01186, section 3.3.
    Raises: UsageError when not even ten updates can be told apart.
    """
    if not 0 < low < high:
        raise UsageError(f"rates from {low:g} to {high:g} do not rise; give 0 < low < high")
    with settings(config):
        copied = copy.deepcopy(module).to(device_of(config))
        check_fits(copied, preprocess, len(dataset.classes), len(dataset.train), config)
        feed = Feed(dataset.train, preprocess, config.model_copy(update={"resident": False}), Team())
        weights = losses.class_weights(config, dataset.train.labels, len(dataset.classes))
        updater = Updater(copied, config, preprocess, weights, axes=feed.colour_axes)
        copied.train()
        rates = np.geomspace(low, high, updates).tolist()
        seen = _climb(updater, feed, rates, progress)
    return judge(rates[: len(seen)], seen, high_reached=len(seen) == updates)


def _climb(updater: Updater, feed: Feed, rates: Sequence[float], progress: Callable[[int, int], None] | None) -> list[float]:
    """Return the mean loss of each update up to the one at which it has left."""
    seen: list[float] = []
    lowest = math.inf
    for step, rate in enumerate(rates):
        size = feed.size(step)
        loss = updater.update(feed.read(step), len(feed.parts(step)), size, step, rate)[0] / size
        if not math.isfinite(loss):
            break
        seen.append(loss)
        smoothed = smooth(seen)[-1]
        lowest = min(lowest, smoothed)
        if progress:
            progress(step + 1, len(rates))
        if len(seen) > FEWEST and smoothed > GONE * lowest:
            break
    return seen


def smooth(values: Sequence[float]) -> list[float]:
    """Return the running mean of each value and those before, the first ones not pulled to zero."""
    found, mean = [], 0.0
    for place, value in enumerate(values, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        found.append(mean / (1 - SMOOTHING**place))
    return found


def judge(rates: Sequence[float], seen: Sequence[float], *, high_reached: bool) -> RateSearch:
    """Return what rates and losses say; `UsageError` where there are too few."""
    if len(seen) < FEWEST:
        raise UsageError(f"the loss left after {len(seen)} updates, at a rate of {rates[len(seen) - 1] if seen else 0:.2g}; begin lower")
    smoothed = smooth(seen)
    lowest = int(np.argmin(smoothed))
    slopes = np.gradient(smoothed, np.log(rates))
    fall = int(np.argmin(slopes[: max(2, lowest + 1)]))
    chosen = float(f"{max(rates[lowest] / 10, rates[fall]):.2g}")
    left = None if high_reached else float(rates[-1])
    ending = f"and leaves at {left:.2g}" if left else "and does not leave"
    reason = (
        f"of {len(seen)} updates at rates from {rates[0]:.2g} to {rates[-1]:.2g}, the loss falls fastest at {rates[fall]:.2g}, is "
        f"lowest ({smoothed[lowest]:.3g}) at {rates[lowest]:.2g}, {ending}: a tenth of the lowest, but no less than the fastest"
    )
    return RateSearch(tuple(rates), tuple(seen), tuple(smoothed), chosen, float(rates[lowest]), float(rates[fall]), left, reason)

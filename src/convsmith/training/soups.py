"""Weights averaged into one network: means of checkpoints, greedy soups, and the norms measured anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convsmith.data import batches, spread
from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.models.modes import in_evaluation
from convsmith.training.augmentation import to_input

Weights = Mapping[str, torch.Tensor]
NORM_IMAGES = 2000


def mean(states: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """Return the mean of weights, summed in float64; counters are those of the last.

    References: Izmailov et al. 2018, Averaging weights leads to wider optima, arXiv 1803.05407 (SWA).
    Raises: UsageError when they are not those of one architecture.
    """
    first = states[0]
    for other in states[1:]:
        if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in other.items()}:
            raise UsageError("only weights of one architecture with the same classes can be averaged; average the answers instead")
    found = {}
    for name, value in first.items():
        if value.is_floating_point():
            found[name] = torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        else:
            found[name] = states[-1][name].clone()
    return found


def greedy(states: Sequence[Weights], score: Callable[[Weights], float]) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    """Return the mean of those states that help, and which they are: from the best on, one stays where the score does not fall.

    References: Wortsman et al. 2022, Model soups, arXiv 2203.05482, recipe 1.
    """
    scores = [score(state) for state in states]
    order = sorted(range(len(states)), key=lambda place: -scores[place])
    kept, best = [order[0]], scores[order[0]]
    for place in order[1:]:
        trial = score(mean([states[index] for index in (*kept, place)]))
        if trial >= best:
            kept, best = [*kept, place], trial
    return mean([states[index] for index in kept]), tuple(kept)


def restore_norms(module: nn.Module, split: Split, preprocess: Preprocess, *, batch: int = 64, workers: int = 0) -> int:
    """Measure the statistics of every batch norm anew on up to 2,000 training images, evenly spread; return how many.

    The statistics of a mean of weights are not the mean of their statistics (Izmailov et al. 2018, section 3.2). A network without
    batch norm is left alone, and 0 returned. All else stays in the mode it was in.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return 0
    rows = spread(len(split), NORM_IMAGES)
    momenta = [norm.momentum for norm in norms]
    with in_evaluation(module), torch.inference_mode():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum, norm.training = None, True  # None: every batch counts alike
            for x, _, _ in batches(split, preprocess, batch, order=rows, workers=workers):
                if len(x) > 1:
                    module(to_input(torch.from_numpy(x), preprocess))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return len(rows)

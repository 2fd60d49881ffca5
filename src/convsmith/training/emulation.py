"""A training run under a plan of number formats."""

from __future__ import annotations

import torch
from torch import nn

from convsmith import precision
from convsmith.data.preprocess import Preprocess
from convsmith.training.config import Training
from convsmith.training.losses import per_image
from convsmith.training.processes import Team


def emulated(module: nn.Module, config: Training, preprocess: Preprocess, device: torch.device, team: Team) -> precision.EmulatedModule:
    """Return the network under the plan of the configuration, its random bits keyed by the seed.

    Raises: UsageError for a plan that does not fit the network; UnsupportedError on a GPU without Triton.
    """
    assert config.plan is not None
    example = torch.zeros(2, preprocess.channels, preprocess.height, preprocess.width, device=device)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return per_image(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device), config).sum()

    plan = precision.Plan.from_dict(config.plan)
    process = (team.rank, team.size)
    return precision.emulate(module, plan, example, seed=config.seed, loss=loss, count_every=config.count_every, process=process)

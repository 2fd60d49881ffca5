"""The update rule: parameter groups, torch's optimizers, and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from convsmith.errors import UsageError
from convsmith.precision.update_rules import Rounded, shift_adamax
from convsmith.training.blocks import Block
from convsmith.training.config import Training
from convsmith.training.muon import Muon, muon_groups


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: weights of layers, which decay, and biases and norm parameters (one axis or none), which do not."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UsageError("the network has no parameter to train; unfreeze some (requires_grad)")
    decayed, spared = [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]
    return [{"params": params, "weight_decay": decay} for params, decay in ((decayed, weight_decay), (spared, 0.0)) if params]


def scaled_groups(module: nn.Module, config: Training) -> list[dict[str, Any]]:
    """Return a group for each weight of a layer, with Glorot's factor of the learning rate, and one for the rest.

    References: Courbariaux, Bengio, David 2015, arXiv 1511.00363, section 2.5: the coefficients of the initialisation of Glorot and
    Bengio 2010 for Adam, their squares for SGD.
    """
    power = 2 if config.optimizer == "sgd" else 1
    found = []
    for group in groups(module, config.weight_decay):
        plain = [p for p in group["params"] if p.ndim < 2]
        found += [{**group, "params": plain}] if plain else []
        found += [{**group, "params": [p], "factor": glorot_factor(p) ** power} for p in group["params"] if p.ndim >= 2]
    return found


def glorot_factor(weight: torch.Tensor) -> float:
    """Return ``sqrt((inputs + outputs) / 1.5)`` of a layer's weights, the area of a kernel counted on both sides."""
    area = math.prod(weight.shape[2:])
    return math.sqrt((weight.shape[0] + weight.shape[1]) * area / 1.5)


def limit_norm(weight: torch.Tensor, most: float) -> None:
    """Scale the weights into each unit down, in place, so that their norm is at most ``most``; vectors are left alone.

    References: Srivastava et al. 2014, Dropout, section 5.1.
    """
    if weight.ndim > 1:
        rows = weight.flatten(1)
        rows.mul_((most / rows.norm(dim=1, keepdim=True).clamp_(min=1e-12)).clamp_(max=1))


def block_groups(parts: Iterable[Block], config: Training) -> list[dict[str, Any]]:
    """Return the groups of each block that ever learns, with its ``factor`` and ``since``; what is anchored does not decay."""
    *body, head = parts
    found = []
    for block in (*body, head):
        decay = 0.0 if config.transfer.anchor and block is not head else config.weight_decay
        decayed, spared = [p for p in block.parameters if p.ndim > 1], [p for p in block.parameters if p.ndim <= 1]
        for params, value in ((decayed, decay), (spared, 0.0)):
            if params and block.factor:
                found.append({"params": params, "weight_decay": value, "factor": block.factor, "since": block.since})
    return found


def moments(config: Training) -> int:
    """Return how many numbers the optimizer keeps per weight."""
    return 2 if config.optimizer != "sgd" else int(config.momentum > 0)


def build(module: nn.Module, config: Training, blocks: tuple[Block, ...] = ()) -> torch.optim.Optimizer:
    """Return the optimizer, torch's own where it has it, with the rate of the configuration; ``blocks``: with rates of their own."""
    if config.optimizer == "muon":
        return Muon(muon_groups(module, config.weight_decay), config.learning_rate, config.momentum, config.betas, config.nesterov)
    if config.rate_scale == "glorot":
        parts = scaled_groups(module, config)
    else:
        parts = block_groups(blocks, config) if blocks else groups(module, config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    if config.optimizer == "adamax":
        return torch.optim.Adamax(parts, lr=config.learning_rate, betas=config.betas)
    if config.optimizer == "shift_adamax":
        return ShiftAdamax(parts, lr=config.learning_rate, betas=config.betas)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parts, lr=config.learning_rate, betas=config.betas, fused=True)


class ShiftAdamax(torch.optim.Optimizer):
    """AdaMax whose rate and division are the nearest powers of two (Courbariaux et al. 2016, arXiv 1602.02830, algorithm 4)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(shift_adamax(p, group, self.state[p], Rounded({})))


class Ema:
    """The running mean of a network's weights and buffers: after update t, ``mean += (1 - d) * (weight - mean)``.

    ``d`` is ``min(decay, (1 + t) / (10 + t))`` with t counted from 1, so that the first weights are soon forgotten. Counters such as
    the number of batches of a norm are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Follow ``module`` after update number ``step`` (from 1)."""
        part = 1 - min(self.decay, (1 + step) / (10 + step))
        now = module.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        means = [self.weights[name] for name in floats]
        torch._foreach_lerp_(means, [now[name].detach() for name in floats], part)
        for name in now.keys() - floats:
            self.weights[name].copy_(now[name])

    @contextmanager
    def lent(self, module: nn.Module) -> Iterator[None]:
        """Give ``module`` the mean for the time of the block; its own values come back bit for bit."""
        own = {name: value.detach().clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.weights)
        try:
            yield
        finally:
            module.load_state_dict(own)

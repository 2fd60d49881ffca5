"""The update rules of the optimizers written out, so that each stored value, or each operation, can be rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from convsmith.models.shift_norm import nearest_power_of_two
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import Role


class Rounded:
    """Rounds the values of one parameter's update: ``momentum`` and ``update`` as they are stored, the operations between on the way.

    A rule of moment ``operation`` rounds each operation to its own format; otherwise those are float32. Operations that are rounded are
    computed in float64 of float32 numbers and constants, where all of + - * / and the root are exact enough to be rounded once.
    ``exact`` is, where asked for, the update before it was rounded.
    """

    def __init__(self, quantizers: Mapping[Role, Quantizer], keep: bool = False) -> None:
        self.exact: Tensor | None = None
        self._keep = keep
        self._update, self._momentum = quantizers.get("update"), quantizers.get("momentum")
        self._second = self._momentum if self._momentum is None or self._momentum.second is None else self._momentum.second
        self._wide = any(q is not None and q.rule.moment == "operation" for q in (self._update, self._momentum))
        self._part = 0

    def read(self, x: Tensor) -> Tensor:
        """Return what operations compute with."""
        return x.detach().double() if self._wide else x

    def number(self, value: float) -> float:
        """Return a constant as operations read it: a float32 number where they are rounded."""
        return float(np.float32(value)) if self._wide else value

    def update(self, x: Tensor) -> Tensor:
        if self._keep:
            self.exact = x.float() if self._wide else x.clone()
        return self._stored(self._update, x)

    def momentum(self, x: Tensor) -> Tensor:
        return self._stored(self._momentum, x)

    def second_momentum(self, x: Tensor) -> Tensor:
        """Store a mean of squares, or a maximum: a dynamic range of its own."""
        return self._stored(self._second, x)

    def step(self, x: Tensor) -> Tensor:
        """Round an operation on the way to the update."""
        return self._operation(self._update, x)

    def moment_step(self, x: Tensor) -> Tensor:
        """Round an operation on the way to a moment."""
        return self._operation(self._momentum, x)

    def second_step(self, x: Tensor) -> Tensor:
        """Round an operation on the way to a second moment."""
        return self._operation(self._second, x)

    def _stored(self, quantizer: Quantizer | None, x: Tensor) -> Tensor:
        self._part += 1
        if not self._wide:
            return x if quantizer is None else quantizer.round_(x, self._part)
        return x.float() if quantizer is None else quantizer.rounded(x, self._part)

    def _operation(self, quantizer: Quantizer | None, x: Tensor) -> Tensor:
        self._part += 1
        if not self._wide:
            return x
        single = quantizer is None or quantizer.rule.moment != "operation"
        return x.float().double() if single or quantizer is None else quantizer.rounded(x, self._part).double()


Group = Mapping[str, Any]
State = MutableMapping[str, Any]


def sgd(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.SGD`` and move its momentum."""
    gradient = _decayed(p, group, rounded)
    momentum = rounded.number(group["momentum"])
    if momentum:
        buffer = state.get("momentum_buffer")
        if buffer is None:
            buffer = state["momentum_buffer"] = rounded.momentum(gradient.clone())
        else:
            kept = 1 - group["dampening"]
            added = gradient if kept == 1 else rounded.moment_step(gradient * rounded.number(kept))
            buffer.copy_(rounded.momentum(rounded.moment_step(rounded.read(buffer) * momentum) + added))
        moved = rounded.read(buffer)
        gradient = rounded.step(gradient + rounded.step(moved * momentum)) if group["nesterov"] else moved
    return rounded.update(gradient * rounded.number(-group["lr"]))


def adam(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.Adam`` and move its moments."""
    gradient = rounded.read(_gradient(p, group)) if group.get("decoupled_weight_decay") else _decayed(p, group, rounded)
    return rounded.update(_adam_direction(gradient, group, state, rounded).mul_(rounded.number(-group["lr"])))


def adamw(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.AdamW``, weight decay included, and move its moments."""
    change = rounded.step(_adam_direction(rounded.read(_gradient(p, group)), group, state, rounded))
    if group["weight_decay"]:
        change = rounded.step(change + rounded.step(rounded.read(p) * rounded.number(group["weight_decay"])))
    return rounded.update(change * rounded.number(-group["lr"]))


def rmsprop(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.RMSprop`` and move its moments."""
    gradient = _decayed(p, group, rounded)
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        names = ["square_avg", *(["momentum_buffer"] if group["momentum"] else []), *(["grad_avg"] if group["centered"] else [])]
        state.update({name: torch.zeros_like(p) for name in names})
    state["step"] += 1
    square = _mean_square(state["square_avg"], gradient, group["alpha"], rounded)
    if group["centered"]:
        mean = _mean(state["grad_avg"], gradient, group["alpha"], rounded)
        square = rounded.step(square - rounded.step(mean * mean))
    spread = rounded.step(rounded.step(square.sqrt()) + rounded.number(group["eps"]))
    change = rounded.step(gradient / spread)
    if group["momentum"]:
        buffer = state["momentum_buffer"]
        kept = rounded.moment_step(rounded.read(buffer) * rounded.number(group["momentum"]))
        buffer.copy_(rounded.momentum(kept + change))
        change = rounded.read(buffer)
    return rounded.update(change * rounded.number(-group["lr"]))


def adamax(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.Adamax`` and move its moments."""
    first, largest, step = _adamax_moments(_decayed(p, group, rounded), group, state, rounded)
    rate = rounded.number(-group["lr"] / (1 - group["betas"][0] ** step))
    return rounded.update(rounded.step(first / largest) * rate)


def shift_adamax(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of AdaMax in which the rate and the division are the nearest powers of two, so that both are shifts.

    References: Courbariaux et al. 2016, arXiv 1602.02830, algorithm 4.
    """
    first, largest, step = _adamax_moments(rounded.read(_gradient(p, group)), group, state, rounded)
    rate = nearest_power_of_two(torch.tensor(group["lr"] / (1 - group["betas"][0] ** step)))
    shift = rounded.read(nearest_power_of_two(1 / largest.float()))
    return rounded.update(rounded.step(first * shift) * -float(rate))


def _adamax_moments(gradient: Tensor, group: Group, state: State, rounded: Rounded) -> tuple[Tensor, Tensor, float]:
    """Move the mean and the largest magnitude of the gradients and return them, with the number of the update."""
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_inf"] = (torch.zeros_like(gradient, dtype=torch.float32) for _ in range(2))
    state["step"] += 1
    (beta1, beta2), largest = group["betas"], state["exp_inf"]
    first = _mean(state["exp_avg"], gradient, beta1, rounded)
    kept = rounded.second_step(rounded.read(largest) * rounded.number(beta2))
    now = rounded.second_step(gradient.abs() + rounded.number(group["eps"]))
    largest.copy_(rounded.second_momentum(torch.maximum(kept, now)))
    return first, rounded.read(largest), float(state["step"])


def _adam_direction(gradient: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        state.update({name: torch.zeros_like(gradient, dtype=torch.float32) for name in names})
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    first = _mean(state["exp_avg"], gradient, beta1, rounded)
    second = _mean_square(state["exp_avg_sq"], gradient, beta2, rounded)
    if group["amsgrad"]:
        largest = state["max_exp_avg_sq"]
        second = rounded.read(torch.maximum(largest, state["exp_avg_sq"], out=largest))
    mean = rounded.step(first / rounded.number(1 - beta1**step))
    spread = rounded.step(rounded.step(second / rounded.number(1 - beta2**step)).sqrt_())
    return mean / rounded.step(spread + rounded.number(group["eps"]))


def _mean(mean: Tensor, gradient: Tensor, beta: float, rounded: Rounded) -> Tensor:
    """Move a running mean of gradients and return it."""
    kept, added = rounded.moment_step(rounded.read(mean) * rounded.number(beta)), gradient * rounded.number(1 - beta)
    mean.copy_(rounded.momentum(kept + rounded.moment_step(added)))
    return rounded.read(mean)


def _mean_square(mean: Tensor, gradient: Tensor, beta: float, rounded: Rounded) -> Tensor:
    """Move a running mean of squared gradients and return it."""
    square = rounded.second_step(rounded.second_step(gradient * gradient) * rounded.number(1 - beta))
    mean.copy_(rounded.second_momentum(rounded.second_step(rounded.read(mean) * rounded.number(beta)) + square))
    return rounded.read(mean)


def _decayed(p: Tensor, group: Group, rounded: Rounded) -> Tensor:
    """Return the gradient with the pull of weight decay."""
    gradient = rounded.read(_gradient(p, group))
    if not group["weight_decay"]:
        return gradient
    return rounded.step(gradient + rounded.step(rounded.read(p) * rounded.number(group["weight_decay"])))


def _gradient(p: Tensor, group: Group) -> Tensor:
    assert p.grad is not None
    return -p.grad if group.get("maximize") else p.grad


RULES: Final[dict[str, Callable[[Tensor, Group, State, Rounded], Tensor]]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adamw,
    "RMSprop": rmsprop,
    "Adamax": adamax,
    "ShiftAdamax": shift_adamax,
}
"""The update rules by the name of torch's class."""

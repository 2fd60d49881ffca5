"""The update rules of the optimizers written out, so that each stored value, or each operation, can be rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import torch
from torch import Tensor

from convsmith.errors import UnsupportedError
from convsmith.models.shift_norm import nearest_power_of_two
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import Role


class Rounded:
    """Rounds the values of one parameter's update: ``momentum`` and ``update`` as they are stored, the operations between on the way.

    A rule of moment ``operation`` rounds each operation to its own format; otherwise those are float32. ``exact`` is, where asked for,
    the update before it was rounded.
    """

    def __init__(self, quantizers: Mapping[Role, Quantizer], keep: bool = False) -> None:
        self.exact: Tensor | None = None
        self._keep = keep
        self._update, self._momentum = quantizers.get("update"), quantizers.get("momentum")
        self._part = 0

    def update(self, x: Tensor) -> Tensor:
        if self._keep:
            self.exact = x.clone()
        return self._stored(self._update, x)

    def momentum(self, x: Tensor) -> Tensor:
        return self._stored(self._momentum, x)

    def step(self, x: Tensor) -> Tensor:
        """Round an operation on the way to the update."""
        return self._operation(self._update, x)

    def moment_step(self, x: Tensor) -> Tensor:
        """Round an operation on the way to a moment."""
        return self._operation(self._momentum, x)

    def _stored(self, quantizer: Quantizer | None, x: Tensor) -> Tensor:
        self._part += 1
        return x if quantizer is None else quantizer.round_(x, self._part)

    def _operation(self, quantizer: Quantizer | None, x: Tensor) -> Tensor:
        self._part += 1
        return x if quantizer is None or quantizer.rule.moment != "operation" else quantizer.round_(x, self._part)


Group = Mapping[str, Any]
State = MutableMapping[str, Any]


def sgd(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.SGD`` and move its momentum."""
    gradient = _gradient(p, group)
    if group["weight_decay"]:
        gradient = rounded.step(gradient + rounded.step(p * group["weight_decay"]))
    momentum = group["momentum"]
    if momentum:
        buffer = state.get("momentum_buffer")
        if buffer is None:
            buffer = state["momentum_buffer"] = rounded.momentum(gradient.clone())
        else:
            kept = 1 - group["dampening"]
            added = gradient if kept == 1 else rounded.moment_step(gradient * kept)
            buffer.copy_(rounded.momentum(rounded.moment_step(buffer * momentum) + added))
        gradient = rounded.step(gradient + rounded.step(buffer * momentum)) if group["nesterov"] else buffer
    return rounded.update(gradient * -group["lr"])


def adam(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.Adam`` and move its moments."""
    gradient = _gradient(p, group)
    if group["weight_decay"] and not group.get("decoupled_weight_decay"):
        gradient = rounded.step(gradient + rounded.step(p * group["weight_decay"]))
    return rounded.update(_adam_direction(gradient, group, state, rounded).mul_(-group["lr"]))


def adamw(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.AdamW``, weight decay included, and move its moments."""
    change = rounded.step(_adam_direction(_gradient(p, group), group, state, rounded))
    if group["weight_decay"]:
        change = rounded.step(change + rounded.step(p * group["weight_decay"]))
    return rounded.update(change * -group["lr"])


def adamax(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of ``torch.optim.Adamax`` and move its moments."""
    gradient = _gradient(p, group)
    if group["weight_decay"]:
        gradient = rounded.step(gradient + rounded.step(p * group["weight_decay"]))
    first, largest, step = _adamax_moments(gradient, group, state, rounded)
    return rounded.update(rounded.step(first / largest) * (-group["lr"] / (1 - group["betas"][0] ** step)))


def shift_adamax(p: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    """Return the update of AdaMax in which the rate and the division are the nearest powers of two, so that both are shifts.

    References: Courbariaux et al. 2016, arXiv 1602.02830, algorithm 4.
    """
    first, largest, step = _adamax_moments(_gradient(p, group), group, state, rounded)
    rate = nearest_power_of_two(torch.tensor(group["lr"] / (1 - group["betas"][0] ** step)))
    return rounded.update(rounded.step(first * nearest_power_of_two(1 / largest)) * -rate)


def _adamax_moments(gradient: Tensor, group: Group, state: State, rounded: Rounded) -> tuple[Tensor, Tensor, float]:
    """Move the mean and the largest magnitude of the gradients and return them, with the number of the update."""
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_inf"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    (beta1, beta2), first, largest = group["betas"], state["exp_avg"], state["exp_inf"]
    step_round = rounded.moment_step
    first.copy_(rounded.momentum(step_round(first * beta1) + step_round(gradient * (1 - beta1))))
    largest.copy_(rounded.momentum(torch.maximum(step_round(largest * beta2), step_round(gradient.abs() + group["eps"]))))
    return first, largest, float(state["step"])


def _adam_direction(gradient: Tensor, group: Group, state: State, rounded: Rounded) -> Tensor:
    if group["amsgrad"]:
        raise UnsupportedError("amsgrad is not emulated; set amsgrad=False")
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    first, second = state["exp_avg"], state["exp_avg_sq"]
    step_round = rounded.moment_step
    first.copy_(rounded.momentum(step_round(first * beta1) + step_round(gradient * (1 - beta1))))
    square = step_round(step_round(gradient * gradient) * (1 - beta2))
    second.copy_(rounded.momentum(step_round(second * beta2) + square))
    mean = rounded.step(first / (1 - beta1**step))
    spread = rounded.step(rounded.step(second / (1 - beta2**step)).sqrt_())
    return mean / rounded.step(spread + group["eps"])


def _gradient(p: Tensor, group: Group) -> Tensor:
    assert p.grad is not None
    return -p.grad if group.get("maximize") else p.grad


RULES: Final[dict[str, Callable[[Tensor, Group, State, Rounded], Tensor]]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adamw,
    "Adamax": adamax,
    "ShiftAdamax": shift_adamax,
}
"""The update rules by the name of torch's class."""

"""Torch's optimizers under a plan: gradients, momentum, updates and weights rounded, with or without float32 master copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from convsmith.errors import UnsupportedError, UsageError
from convsmith.precision.emulated_module import EmulatedModule
from convsmith.precision.loss_scaling import LossScaler
from convsmith.precision.quantizer import Quantizer, round_together
from convsmith.precision.rounding import round_tensor
from convsmith.precision.rule import FLOAT32, LEARNED, Role
from convsmith.precision.update_rules import RULES, Rounded

Quantizers = Mapping[Role, Quantizer]

Constraint = Callable[[Tensor], None]
"""Changes a weight in place after each update, before it is rounded to be stored."""

STEPPING: Final[tuple[Role, ...]] = ("update", "momentum")


class PlannedOptimizer:
    """Steps as ``inner`` does, a parameter that the plan speaks of by arithmetic of our own with each stored value rounded.

    An update is made of: gradients divided by the loss scale and rounded (moment ``batch``); momentum rounded as stored; the update
    rounded; the sum clipped where a rule says so, and put through ``constrain``; the weight rounded after that where the plan keeps no
    master copies. Parameters without a rule are left to
    ``inner``, bit for bit. ``inner`` keeps rates and moments, so that schedulers and ``state_dict`` see the usual.
    """

    def __init__(self, inner: torch.optim.Optimizer, emulated: EmulatedModule, constrain: Constraint | None = None) -> None:
        if type(inner).__name__ not in RULES:
            raise UnsupportedError(f"the optimizer {type(inner).__name__} is not emulated; there are {', '.join(RULES)}")
        self.inner, self.emulated, self._constrain = inner, emulated, constrain
        self.scaler = LossScaler(emulated.plan.loss_scale)
        self._round_stored(emulated.plan.master)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none=set_to_none)

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss times the loss scale, for the backward pass."""
        return self.scaler.scale(loss)

    def unscale(self) -> None:
        """Take the loss scale out of the gradients now, for example to clip them; ``step`` does it where this was not called."""
        self.scaler.unscale(p.grad for p in self._with_gradients())

    @torch.no_grad()
    def step(self) -> bool:
        """Make one update and return True; False where the loss scale skips it because a gradient is not finite."""
        parameters = self._with_gradients()
        self.unscale()
        made = self.scaler.decide(p.grad for p in parameters)
        if made:
            self._update(parameters)
        self.emulated.advance()
        return made

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict(), "loss_scale": self.scaler.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])
        self.scaler.load(state["loss_scale"])

    def _with_gradients(self) -> list[Any]:
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _update(self, parameters: list[nn.Parameter]) -> None:
        found = {id(p): self.emulated.quantizers_of(p) for p in parameters}
        counting = self.emulated.counters.due(self.emulated.moment)
        before = {id(p): p.detach().clone() for p in parameters} if counting else {}
        planned = [p for p in parameters if self._is_planned(found[id(p)])]
        sent = [(found[id(p)].get("weight_gradient"), p.grad) for p in parameters]
        round_together([(q, g) for q, g in sent if q is not None and q.rule.moment == "batch" and g is not None])
        exact: dict[int, Tensor | None] = {}
        updates = {}
        for p, group in self._groups_of(planned):
            rounded = Rounded(found[id(p)], keep=counting)
            updates[id(p)] = RULES[type(self.inner).__name__](p, group, self.inner.state[p], rounded)
            exact[id(p)] = rounded.exact
        self._step_others(planned)
        for p in parameters:
            if id(p) in updates:
                p.add_(updates[id(p)])
            self._limit(p, found[id(p)])
        stored = [(self._stored(found[id(p)]), p) for p in parameters]
        round_together([(quantizer, p) for quantizer, p in stored if quantizer is not None], _STORED)
        if counting:
            for p in parameters:
                old, update = before[id(p)], exact.get(id(p))
                self._count(found[id(p)], old, p.detach(), p - old if update is None else update)

    def _limit(self, p: nn.Parameter, found: Quantizers) -> None:
        """Clip a weight as its rule says, then let the constraint have it."""
        rule = value.rule if (value := _value(found)) is not None else None
        if rule is not None and rule.clip:
            p.clamp_(-rule.clip, rule.clip)
        if self._constrain is not None:
            self._constrain(p)

    def _groups_of(self, planned: list[nn.Parameter]) -> list[tuple[nn.Parameter, dict[str, Any]]]:
        wanted = {id(p) for p in planned}
        return [(p, group) for group in self.param_groups for p in group["params"] if id(p) in wanted]

    def _step_others(self, planned: list[nn.Parameter]) -> None:
        held = [(p, p.grad) for p in planned]
        for p in planned:
            p.grad = None
        self.inner.step()
        for p, gradient in held:
            p.grad = gradient

    def _is_planned(self, found: Quantizers) -> bool:
        return any(role in found for role in STEPPING) or self._stored(found) is not None

    def _stored(self, found: Quantizers) -> Quantizer | None:
        return None if self.emulated.plan.master else _value(found)

    def _round_stored(self, master: bool) -> None:
        """Begin with weights of their formats where there are no master copies."""
        if master:
            return
        for group in self.param_groups:
            for p in group["params"]:
                stored = self._stored(self.emulated.quantizers_of(p))
                if stored is not None:
                    if stored.rule.pseudo_gradient in LEARNED:
                        raise UsageError(f"{stored.name}: a learned step needs float32 master copies of the weights; set master=true")
                    stored.looks_at = _STORED
                    stored.round_(p, _STORED)

    def _count(self, found: Quantizers, old: Tensor, new: Tensor, update: Tensor) -> None:
        """Count the updates below half a unit in the last place of their weights, and the weights whose sign changed.

        A weight rounded to nearest would not move by such an update.
        """
        weight = _value(found)
        some = weight or next(iter(found.values()), None)
        if some is None or (weight is not None and weight.rule.scale not in ("none", "dynamic")):
            return
        fmt = FLOAT32 if weight is None else weight.fmt
        now = round_tensor(old, fmt)
        still = (round_tensor(now + update, fmt) == now) & (update != 0)
        stagnant = 0 if fmt.kind == "binary" else int(still.sum())  # a binary weight moves in its master copy alone
        flips = int(((round_tensor(new, fmt) < 0) != (now < 0)).sum())
        layer, _, tensor = some.label
        label, step = (layer, "update", tensor), self.emulated.moment.step
        limited = 0
        if weight is not None and fmt.kind == "binary":
            self.emulated.counters.signs.add(label)
            limited = int((new.abs() >= weight.rule.clip).sum()) if weight.rule.clip else 0
        self.emulated.counters.count_update(label, step, update.numel(), stagnant=stagnant, flips=flips, limited=limited)


_STORED: Final = 64
"""The part of a weight's random bits that rounds it as stored; part 0 rounds it as read."""


def _value(found: Quantizers) -> Quantizer | None:
    """Return what rounds the parameter itself."""
    return found.get("weight") or found.get("bias")


def optimizer(inner: torch.optim.Optimizer, emulated: EmulatedModule) -> PlannedOptimizer:
    """Return the optimizer that steps as ``inner`` under the plan of ``emulated``; build ``inner`` on ``emulated.parameters()``.

    Raises: UnsupportedError for optimizers without an update rule written out here, and for variants of them.
    """
    return PlannedOptimizer(inner, emulated)

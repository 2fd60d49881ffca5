"""Rounding of one tensor under its rule, again and again: the format as it moves, the scale, the random bits, the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.precision.counters import Counters
from convsmith.precision.dynamic_range import DynamicRange
from convsmith.precision.matching import Assignment
from convsmith.precision.pseudo_gradients import LearnedStep, TernaryMagnitudes, first_magnitudes, first_step
from convsmith.precision.rounding import round_counted, round_tensor, round_tensors
from convsmith.precision.rule import Role, Rule
from convsmith.precision.scales import round_scaled
from convsmith.precision.streams import Moment, stream, tensor_key

SHARED: Final[tuple[Role, ...]] = ("weight", "bias", "weight_gradient", "update", "momentum")
"""Roles whose tensors are the same in all processes of a training."""


class Quantizer:
    """Rounds one tensor. ``name`` is ``layer:role:tensor``; random bits are keyed by (seed, name, step, call, index).

    ``looks_at``: the part alone from which a dynamic range learns, None for all; weights that are stored rounded show no overflow when
    they are read. ``of_images``: each process of several rounds numbers of its own images; weights are the same in all of them, and so
    are their random bits. ``second``: of a momentum with a dynamic range, what rounds second moments, which have another range.
    """

    __slots__ = (
        *("_counters", "_key", "_moment", "_process", "_stochastic", "axis", "dynamic", "fmt", "label", "looks_at", "name", "of_images"),
        *("rule", "second", "step_size"),
    )

    def __init__(self, assigned: Assignment, rule: Rule, moment: Moment, counters: Counters, *, second: bool = False) -> None:
        assert rule.format is not None
        self.rule, self.axis = rule, assigned.axis
        self.fmt = rule.format
        self.label = (assigned.layer, assigned.role, assigned.tensor)
        self.name = ":".join(self.label)
        self.looks_at: int | None = None
        self.of_images = assigned.role not in SHARED or (assigned.role == "weight_gradient" and rule.moment == "layer")
        self._process = moment.process if self.of_images else 0
        self.dynamic: DynamicRange | None = None
        self.second: Quantizer | None = None
        if rule.scale == "dynamic":
            kept = assigned.role == "momentum"
            self.dynamic = DynamicRange(rule, together=self.of_images and moment.processes > 1, kept=kept)
            self.second = Quantizer(assigned, rule, moment, counters, second=True) if kept and not second else None
        self._moment, self._counters = moment, counters
        self.step_size: Tensor | None = None
        self._key = tensor_key(*self.label)
        self._stochastic = rule.rounding == "stochastic"

    def round_(self, x: Tensor, part: int = 0) -> Tensor:
        """Round a float32 tensor in its own memory, without telling autograd: what backward passes read is what was stored.

        ``part`` tells several roundings of one tensor in one pass apart, so that each has random bits of its own.
        """
        stored = x.data  # a version counter of its own: autograd must not take the store for a change
        self._round(stored, stored, part)
        return x

    def rounded(self, x: Tensor, part: int = 0) -> Tensor:
        """Return a rounded copy."""
        return self._round(x.detach(), None, part)

    def batch_key(self) -> tuple[Any, ...] | None:
        """Return what tensors must have in common to be rounded in one call; None for one that is rounded alone."""
        rule = self.rule
        if rule.scale != "none" or self._counters.due(self._moment):
            return None
        return self.fmt, rule.rounding, rule.overflow, rule.random_bits, self._moment.seed

    def stream(self, part: int) -> int:
        """Return the stream of a rounding."""
        return stream(self._key + part, self._moment, self._process) if self._stochastic else 0

    def _round(self, x: Tensor, out: Tensor | None, part: int) -> Tensor:
        if x.dtype != torch.float32 and (out is not None or x.dtype != torch.float64):
            layer, role, tensor = self.label
            raise UsageError(f"layer {layer!r}, {role} {tensor!r} is {x.dtype}; emulation carries every format in float32: use .float()")
        moment, rule = self._moment, self.rule
        if self.dynamic is not None:
            self.fmt = self.dynamic.format
            if moment.training and self.looks_at in (None, part):
                self.dynamic.look(x)
                self.fmt = self.dynamic.format if self.dynamic.kept else self.fmt
        how: dict[str, Any] = {"random_bits": rule.random_bits}
        if self._stochastic:
            how |= {"seed": moment.seed, "stream": self.stream(part)}
        counting = self._counters.due(moment)
        if counting and self.fmt.kind == "binary":
            counting = False  # nothing overflows or underflows in a sign
            if rule.role == "activation":
                self._counters.count_signs(self.label, moment.step, x)
        if rule.scale in ("none", "dynamic"):
            if not counting:
                return round_tensor(x, self.fmt, rule.rounding, rule.overflow, out=out, **how).float()
            result, counts = round_counted(x, self.fmt, rule.rounding, rule.overflow, out=out, **how)
            self._counters.count(self.label, moment.step, result, counts, self.fmt)
            return result
        before = x.count_nonzero() if counting else 0
        result = round_scaled(x, self.fmt, rule, self.axis, how, out)
        if counting:
            self._counters.count_zeros(self.label, moment.step, result.numel(), int(before - result.count_nonzero()))
        return result

    @property
    def idle(self) -> bool:
        """Whether the rule leaves the tensor alone now: in evaluation, where it is for training only."""
        return self.rule.training_only and not self._moment.training

    def keys(self, part: int) -> dict[str, Any]:
        """Return seed and stream of a computation that draws its own random bits."""
        return {"seed": self._moment.seed, "stream": self.stream(part)}

    @property
    def step(self) -> int:
        return self._moment.step

    def learned(self, x: Tensor) -> Tensor:
        """Return the values rounded to multiples of what is learned, with a gradient for it; the first values decide where it begins."""
        assert self.step_size is not None
        if self.rule.pseudo_gradient == "ttq":
            return self._ternary(x, self.step_size)
        low, high = formats.min_value(self.fmt), formats.max_value(self.fmt)
        if not self.step_size.item():
            with torch.no_grad():
                self.step_size.fill_(first_step(x.detach(), high))
        result: Tensor = LearnedStep.apply(x, self.step_size, low, high)  # type: ignore[no-untyped-call]
        return result

    @staticmethod
    def _ternary(x: Tensor, magnitudes: Tensor) -> Tensor:
        if not magnitudes.any():
            with torch.no_grad():
                magnitudes.copy_(first_magnitudes(x.detach()))
        result: Tensor = TernaryMagnitudes.apply(x, magnitudes)  # type: ignore[no-untyped-call]
        return result

    def state(self) -> dict[str, Any] | None:
        """Return where a dynamic range is, None for other quantizers."""
        if self.dynamic is None:
            return None
        return self.dynamic.state() | ({} if self.second is None else {"second": self.second.state()})

    def load(self, state: Mapping[str, Any]) -> None:
        """Put a dynamic range where it was."""
        assert self.dynamic is not None
        self.dynamic.load(state)
        if self.second is not None:
            self.second.load(state["second"])


def round_together(pairs: Sequence[tuple[Quantizer, Tensor]], part: int = 0) -> None:
    """Round tensors in place as `Quantizer.round_` does, all those of a format by one call."""
    groups: dict[tuple[Any, ...], list[tuple[Quantizer, Tensor]]] = {}
    for quantizer, x in pairs:
        key = quantizer.batch_key()
        if key is None or x.dtype != torch.float32:
            quantizer.round_(x, part)
        else:
            groups.setdefault(key, []).append((quantizer, x))
    for (fmt, rounding, overflow, random_bits, seed), group in groups.items():
        streams = [quantizer.stream(part) for quantizer, _ in group]
        stored = [x.data for _, x in group]  # version counters of their own, as in `Quantizer.round_`
        round_tensors(stored, fmt, rounding, overflow, streams=streams, seed=seed, in_place=True, random_bits=random_bits)

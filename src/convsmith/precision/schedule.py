"""When the rules of a plan change, and what the loss is multiplied by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from convsmith.errors import UsageError, near
from convsmith.precision.rule import Rule

When = Literal["step", "epoch", "stall"]
LossScaleKind = Literal["none", "static", "dynamic"]


@dataclass(frozen=True)
class Start:
    """When a phase begins: ``at`` a step or an epoch (both from 0), or when the loss stalls.

    The loss has stalled when none of the last ``patience`` epochs was better than the best before by the part ``least`` of it.
    """

    when: When
    at: float = 0
    patience: int = 3
    least: float = 0.01

    def __post_init__(self) -> None:
        if self.when not in ("step", "epoch", "stall"):
            raise UsageError(
                f"a phase begins at a step, at an epoch or at a stall; got {self.when!r}.{near(self.when, ('step', 'epoch', 'stall'))}"
            )
        if self.when != "stall" and self.at <= 0:
            raise UsageError(f"a phase begins at {self.when} {self.at:g}; it must be above 0, where the plan's own rules begin")
        if self.patience < 1 or not 0 <= self.least < 1:
            raise UsageError(f"patience is {self.patience} and least {self.least:g}; at least 1, and 0 or more but below 1")

    def __str__(self) -> str:
        if self.when != "stall":
            return f"{self.when} {self.at:g}"
        return f"a stall of the loss: {self.patience} epochs without {100 * self.least:g} % less"


@dataclass(frozen=True)
class Phase:
    """The rules that hold from a moment on, in place of all rules before."""

    start: Start
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))

    def to_dict(self) -> dict[str, Any]:
        return {"start": asdict(self.start), "rules": [rule.to_dict() for rule in self.rules]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Phase:
        return cls(Start(**values["start"]), tuple(Rule.from_dict(rule) for rule in values["rules"]))


@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by before the backward pass, and gradients divided by after it.

    ``dynamic`` doubles (``factor``) after ``interval`` updates without overflow; after a gradient that is not finite it skips the
    update and halves. Formats that saturate hide their overflow from it.
    References: Micikevicius et al. 2018, arXiv 1710.03740, section 3.2.
    """

    kind: LossScaleKind = "none"
    value: float = 65536.0
    factor: float = 2.0
    interval: int = 2000

    def __post_init__(self) -> None:
        if self.kind not in ("none", "static", "dynamic"):
            raise UsageError(
                f"loss scale is {self.kind!r}; allowed are none, static, dynamic.{near(self.kind, ('none', 'static', 'dynamic'))}"
            )
        if not self.value > 0 or not self.factor > 1 or self.interval < 1:
            raise UsageError(
                f"loss scale of value {self.value:g}, factor {self.factor:g}, interval {self.interval}: "
                "the value must be above 0, the factor above 1, the interval at least 1"
            )

    def __str__(self) -> str:
        if self.kind == "dynamic":
            return f"dynamic from {self.value:g}, times {self.factor:g} after {self.interval} updates without overflow"
        return f"{self.value:g}" if self.kind == "static" else "none"


@dataclass
class Clock:
    """Where a run is in the phases of its plan. ``phase`` never goes back."""

    starts: tuple[Start, ...]
    phase: int = 0
    epoch: int = 0
    best: float = math.inf
    stale: int = 0

    def at_step(self, step: int) -> int:
        """Return the phase of update ``step``, counted from 0."""
        while self._next is not None and self._next.when == "step" and step >= self._next.at:
            self._begin()
        return self.phase

    def after_epoch(self, loss: float) -> int:
        """Take note of the loss of an epoch and return the phase that follows."""
        self.epoch += 1
        if self._next is not None and self._next.when == "stall":
            self.stale = 0 if loss < self.best * (1 - self._next.least) else self.stale + 1
            self.best = min(self.best, loss)
            if self.stale >= self._next.patience:
                self._begin()
        while self._next is not None and self._next.when == "epoch" and self.epoch >= self._next.at:
            self._begin()
        return self.phase

    @property
    def _next(self) -> Start | None:
        return self.starts[self.phase] if self.phase < len(self.starts) else None

    def _begin(self) -> None:
        self.phase, self.best, self.stale = self.phase + 1, math.inf, 0

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("phase", "epoch", "best", "stale")}

    def load(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

"""Which settings are varied and over what: ``learning_rate=0.01,0.1`` is a list, ``learning_rate=1e-4..1e-1:log`` a range."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import yaml

from convsmith.errors import UsageError

_RANGE = re.compile(r"\s*([-+.\deE]+?)\.\.([-+.\deE]+)(?::(log|[\d.eE+-]+))?\s*")
FORMS = "KEY=0.01,0.1 for a list, KEY=0.5..0.9 for a range, KEY=1e-4..1e-1:log for one in powers, KEY=16..64:16 for one in steps"


class Suggesting(Protocol):
    """What an optuna trial offers."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Axis:
    """One varied setting: its ``values``, or from ``low`` to ``high``, ends included; ``whole``: integers only."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def is_list(self) -> bool:
        return bool(self.values)

    def ends(self) -> tuple[Any, ...]:
        """Return the values that must be allowed: all of a list, both ends of a range."""
        return self.values or (self._typed(self.low), self._typed(self.high))

    def suggest(self, trial: Suggesting) -> Any:
        """Return a trial's value of this setting."""
        if self.is_list:
            return trial.suggest_categorical(self.name, self.values)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def draw(self, generator: np.random.Generator) -> Any:
        """Return a random value: uniform over the list, the range, or its logarithm."""
        if self.is_list:
            return self.values[generator.integers(len(self.values))]
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-9)
            return self._typed(self.low + self.step * int(generator.integers(count + 1)))
        if self.whole and not self.log:
            return int(generator.integers(int(self.low), int(self.high) + 1))
        if self.log:
            pad = 0.5 if self.whole else 0.0  # every integer gets its share of the logarithm
            value = math.exp(generator.uniform(math.log(self.low - pad), math.log(self.high + pad)))
            return self._typed(min(max(value, self.low), self.high))
        return float(generator.uniform(self.low, self.high))

    def _typed(self, value: float) -> Any:
        return round(value) if self.whole else float(value)


def parse(text: str) -> Axis:
    """Read ``KEY=SPEC``.

    Raises: UsageError that shows the forms there are.
    """
    name, equals, spec = text.partition("=")
    name = ".".join(part.strip().replace("-", "_") for part in name.split("."))
    if not equals or not name or not spec.strip():
        raise UsageError(f"--over {text!r} is not of the form KEY=VALUES: {FORMS}")
    found = _RANGE.fullmatch(spec)
    if found:
        return _range(text, name, *found.groups())
    if ".." in spec:
        raise UsageError(f"--over {text!r} is no range of numbers: {FORMS}")
    return Axis(name, tuple(_values(text, spec)))


def _range(text: str, name: str, low_text: str, high_text: str, how: str | None) -> Axis:
    try:
        low, high = float(low_text), float(high_text)
        step = None if how in (None, "log") else float(how or 0)
    except ValueError:
        raise UsageError(f"--over {text!r} is no range of numbers: {FORMS}") from None
    whole = all(re.fullmatch(r"[-+]?\d+", part) for part in (low_text, high_text)) and (step is None or step == round(step))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--over {text!r}: a range goes from a smaller to a larger number")
    if whole and high - low == 1:
        told = f"{name}={low_text},{high_text} are two values, {name}={low:.1f}..{high:.1f} are all numbers between them"
        raise UsageError(f"--over {text!r} may mean either: {told}")
    if how == "log" and low <= 0:
        raise UsageError(f"--over {text!r}: a range in powers begins above 0")
    if step is not None and not 0 < step <= high - low:
        raise UsageError(f"--over {text!r}: the step must be above 0 and at most {high - low:g}")
    return Axis(name, (), low, high, how == "log", step, whole)


def _values(text: str, spec: str) -> list[Any]:
    found: list[Any] = []
    for part in spec.split(","):
        try:
            value = yaml.safe_load(part)
        except yaml.YAMLError:
            value = part.strip()
        if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
            value = _number(value)
        if isinstance(value, dict | list) or not (value is None or isinstance(value, bool | int | float | str)):
            raise UsageError(f"--over {text!r}: {part.strip()!r} is no plain value")
        if any(value == other and type(value) is type(other) for other in found):
            raise UsageError(f"--over {text!r} holds {part.strip()} twice")
        found.append(value)
    return found


def _number(text: str) -> Any:
    try:
        return float(text) if re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text) else text
    except ValueError:
        return text


def grid(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return every combination of the lists, the last one varying fastest.

    Raises: UsageError when one is a range.
    """
    for axis in axes:
        if not axis.is_list:
            raise UsageError(f"a grid needs lists, and {axis.name} is a range; give its values, or --sampler random or tpe")
    return [dict(zip([axis.name for axis in axes], values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"training.momentum": 0.8}`` into ``{"training": {"momentum": 0.8}}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = found
        *parents, last = key.split(".")
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found

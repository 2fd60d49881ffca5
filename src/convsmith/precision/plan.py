"""A plan: rules that say which tensor of which layer speaks which number format, as data that can be printed, compared and saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from convsmith import formats
from convsmith.errors import DataError, UsageError, near

Role = Literal["weight", "bias", "activation", "error", "weight_gradient", "update", "momentum", "accumulator"]
Moment = Literal["operation", "layer", "batch"]
ScaleRule = Literal["none", "tensor", "channel"]
RangeRule = Literal["max", "percentile"]

PLAN_VERSION: Final = 1
ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "role": get_args(Role),
    "moment": get_args(Moment),
    "scale": get_args(ScaleRule),
    "range": get_args(RangeRule),
    "rounding": formats.ROUNDINGS,
    "overflow": formats.OVERFLOWS,
}


@dataclass(frozen=True)
class Rule:
    """The format of one role of tensor in every layer whose name matches a glob.

    ``format`` None leaves the tensor in float32, which exempts layers from an earlier rule. ``scale`` is for integers: one step size for
    the tensor or for each output channel; ``range`` says from what: the largest magnitude seen, or a percentile of it.
    """

    layer: str
    role: Role
    format: formats.Format | None
    moment: Moment = "layer"
    rounding: formats.Rounding = "nearest_even"
    overflow: formats.Overflow = "saturate"
    scale: ScaleRule = "none"
    range: RangeRule = "max"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        for field, allowed in ALLOWED.items():
            given = getattr(self, field)
            if given not in allowed:
                raise UsageError(f"{field} is {given!r}; allowed are {', '.join(allowed)}.{near(str(given), allowed)}")
        if not self.layer:
            raise UsageError("a rule needs a layer name or glob; '*' means every layer")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile:g}; it must be above 50 and at most 100")
        integer = self.format is not None and self.format.kind == "integer"
        if self.scale != "none" and not integer:
            raise UsageError(f"scale {self.scale!r} is for integer formats; {self.format_name} has its own range, so scale must be 'none'")
        if self.scale == "channel" and self.role == "activation":
            raise UsageError("scale 'channel' is for weights; activations have one step size for the tensor")

    @property
    def format_name(self) -> str:
        return "float32" if self.format is None else str(self.format)

    def to_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"format": self.format and str(self.format)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rule:
        """Read a rule; ``UsageError`` names an unknown or missing field."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"a rule has no field {key!r}; it has {', '.join(known)}.{near(key, known)}")
        for key in ("layer", "role", "format"):
            if key not in values:
                raise UsageError(f"a rule needs the field {key!r} (format may be null, for float32); got {', '.join(values) or 'none'}")
        text = values["format"]
        return cls(**{**values, "format": None if text is None else formats.parse(text)})


@dataclass(frozen=True)
class Plan:
    """Rules in order; where several match one tensor, the last decides. No rules at all: everything stays float32."""

    rules: tuple[Rule, ...] = ()
    name: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))

    def to_dict(self) -> dict[str, Any]:
        return {"version": PLAN_VERSION, "name": self.name, "rules": [rule.to_dict() for rule in self.rules]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Read a plan; ``UsageError`` for another version or a rule that cannot be."""
        if values.get("version") != PLAN_VERSION:
            raise UsageError(f"the plan has version {values.get('version')!r}; this Convsmith reads version {PLAN_VERSION}")
        return cls(tuple(Rule.from_dict(rule) for rule in values["rules"]), values.get("name", "plan"))

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan from JSON text; ``DataError`` when it is not JSON of a plan."""
        try:
            values = json.loads(text)
            return cls.from_dict(values)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"this is not a plan in JSON: {type(error).__name__}: {error}") from None

    def save(self, path: Path | str) -> None:
        """Write the plan as JSON."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Read a plan that ``save`` wrote; ``DataError`` when there is no such file."""
        path = Path(path)
        if not path.is_file():
            raise DataError(f"there is no plan {str(path)!r}")
        return cls.from_json(path.read_text(encoding="utf-8"))

    def __str__(self) -> str:
        """The rules as a table."""
        head = ("layer", "role", "moment", "format", "rounding", "overflow", "scale")
        rows = [
            (r.layer, r.role, r.moment, r.format_name, r.rounding, r.overflow, r.scale if r.scale == "none" else f"{r.scale} {r.range}")
            for r in self.rules
        ]
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
        return "\n".join([f"plan {self.name}", *lines]) if rows else f"plan {self.name}: no rules, everything stays float32"

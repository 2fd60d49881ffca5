"""A plan: rules that say which tensor of which layer speaks which number format, and when, as data that can be printed and saved."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convsmith.errors import DataError, UsageError
from convsmith.precision.rule import Moment, RangeRule, Role, Rule, ScaleRule
from convsmith.precision.schedule import LossScale, Phase, Start

if TYPE_CHECKING:
    from convsmith.graph.network import Graph
    from convsmith.precision.calibration import Ranges

__all__ = ["LossScale", "Moment", "Phase", "Plan", "RangeRule", "Role", "Rule", "ScaleRule", "Start"]

PLAN_VERSION: Final = 2
READ_VERSIONS: Final = (1, 2)


@dataclass(frozen=True)
class Plan:
    """Rules in order; where several match one tensor, the last decides. No rules at all: everything stays float32.

    ``exempt``: globs of layers that stay in float32 whatever the rules say. ``master``: keep float32 copies of the weights, to which
    updates are added; without them the stored weights are those of the format. ``loss_scale``: what the loss is multiplied by before
    the backward pass. ``phases`` follow on the rules, each with rules of its own, from a step, an epoch, or when the loss stalls.
    """

    rules: tuple[Rule, ...] = ()
    name: str = "float32"
    exempt: tuple[str, ...] = ()
    master: bool = True
    loss_scale: LossScale = field(default_factory=LossScale)
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rules", "exempt", "phases"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_order(self.phases)

    def quantise(self, graph: Graph, ranges: Ranges | None = None) -> Graph:
        """Return the graph with QuantizeLinear and DequantizeLinear where this plan says int8; see ``precision.quantise``."""
        from convsmith.precision.quantisation import quantise

        return quantise(graph, self, ranges)

    def quant_nodes(self, graph: Graph, ranges: Ranges | None = None) -> Graph:
        """Return the graph with QONNX's Quant and BipolarQuant where this plan rounds; see ``precision.quant_nodes``."""
        from convsmith.precision.quant_nodes import quant_nodes

        return quant_nodes(graph, self, ranges)

    def rules_of(self, phase: int) -> tuple[Rule, ...]:
        """Return the rules of a phase, 0 being those of the plan itself."""
        return self.phases[phase - 1].rules if phase else self.rules

    def last(self) -> Plan:
        """Return the plan that a run under this one ends with: the rules of the last phase alone."""
        return replace(self, rules=self.rules_of(len(self.phases)), phases=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": PLAN_VERSION,
            "name": self.name,
            "rules": [rule.to_dict() for rule in self.rules],
            "exempt": list(self.exempt),
            "master": self.master,
            "loss_scale": asdict(self.loss_scale),
            "phases": [phase.to_dict() for phase in self.phases],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Read a plan of this version or an earlier one; ``UsageError`` for another version or a rule that cannot be."""
        if values.get("version") not in READ_VERSIONS:
            read = " and ".join(map(str, READ_VERSIONS))
            raise UsageError(f"the plan has version {values.get('version')!r}; this Convsmith reads versions {read}")
        rules = tuple(Rule.from_dict(rule) for rule in values["rules"])
        return cls(
            rules,
            values.get("name", "plan"),
            exempt=tuple(values.get("exempt", ())),
            master=bool(values.get("master", True)),
            loss_scale=LossScale(**values.get("loss_scale", {})),
            phases=tuple(Phase.from_dict(phase) for phase in values.get("phases", ())),
        )

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
        """The rules as a table, then what holds for all of them."""
        if not self.rules and not self.phases:
            return f"plan {self.name}: no rules, everything stays float32"
        lines = [f"plan {self.name}", *_rows(self.rules)]
        for number, phase in enumerate(self.phases, 1):
            lines += [f"phase {number}, from {phase.start}", *_rows(phase.rules)]
        if self.exempt:
            lines.append(f"exempt, in float32: {', '.join(self.exempt)}")
        if not self.master:
            lines.append("weights without float32 master copies")
        if self.loss_scale.kind != "none":
            lines.append(f"loss scale: {self.loss_scale}")
        return "\n".join(lines)


def _rows(rules: Sequence[Rule]) -> list[str]:
    if not rules:
        return ["no rules, everything stays float32"]
    head = ("layer", "role", "moment", "format", "rounding", "overflow", "details")
    rows = [(r.layer, r.role, r.moment, r.format_name, r.rounding, r.overflow, r.details()) for r in rules]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def _check_order(phases: tuple[Phase, ...]) -> None:
    """Refuse phases of one clock that do not follow each other."""
    for clock in ("step", "epoch"):
        times = [phase.start.at for phase in phases if phase.start.when == clock]
        if any(later <= earlier for earlier, later in itertools.pairwise(times)):
            raise UsageError(f"the phases begin at {clock} {', '.join(f'{t:g}' for t in times)}; each must begin after the one before")

"""Which rule decides a tensor, and the error for a rule that decides none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from convsmith.errors import UsageError, near
from convsmith.precision.rule import Role, Rule


@dataclass(frozen=True)
class Assignment:
    """One tensor of one layer and the rule that decided its format; ``axis`` is that of the output channels of a weight."""

    layer: str
    op: str
    role: Role
    tensor: str
    rule: Rule | None
    axis: int | None = None

    @property
    def format_name(self) -> str:
        return "float32" if self.rule is None else self.rule.format_name


def decide(rules: Sequence[Rule], exempt: Iterable[str], tensor: Assignment) -> Assignment:
    """Return the tensor with the last rule that matches it; without one where its layer is exempt."""
    if any(fnmatchcase(tensor.layer, glob) for glob in exempt):
        return tensor
    return replace(tensor, rule=next((rule for rule in reversed(rules) if matches(rule, tensor)), None))


def matches(rule: Rule, tensor: Assignment) -> bool:
    """Tell whether a rule speaks of a tensor."""
    return rule.role == tensor.role and fnmatchcase(tensor.layer, rule.layer)


def require_matches(rules: Sequence[Rule], found: Sequence[Assignment], where: str = "") -> None:
    """Raise ``UsageError`` for the first rule that matches nothing, with the layers there are and the nearest name."""
    for number, rule in enumerate(rules, 1):
        if any(matches(rule, tensor) for tensor in found):
            continue
        layers = list(dict.fromkeys(tensor.layer for tensor in found if tensor.role == rule.role))
        some = ", ".join(layers[:5]) + (" ..." if len(layers) > 5 else "") or "none"
        raise UsageError(
            f"{where}rule {number} ({rule.layer!r}, {rule.role}) matches nothing; layers with a tensor of that role are {some}."
            f"{near(rule.layer, layers)}"
        )


def require_exempt(exempt: Iterable[str], found: Sequence[Assignment]) -> None:
    """Raise ``UsageError`` for an exempt glob that matches no layer."""
    layers = list(dict.fromkeys(tensor.layer for tensor in found))
    for glob in exempt:
        if not any(fnmatchcase(layer, glob) for layer in layers):
            some = ", ".join(layers[:5]) + (" ..." if len(layers) > 5 else "")
            raise UsageError(f"exempt {glob!r} matches no layer; there are {some}.{near(glob, layers)}")


def table(assignments: Sequence[Assignment]) -> str:
    """Return what each tensor became, one line each."""
    head = ("layer", "operator", "role", "format", "moment", "rounding", "overflow", "details")
    rows = [head, *(_row(assigned) for assigned in assignments)]
    used = [column for column in range(len(head)) if any(row[column] for row in rows[1:])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(row[column].ljust(widths[column]) for column in used).rstrip() for row in rows)


def _row(assigned: Assignment) -> tuple[str, ...]:
    rule = assigned.rule
    if rule is None or rule.format is None:
        return assigned.layer, assigned.op, assigned.role, "float32", "", "", "", ""
    return assigned.layer, assigned.op, assigned.role, assigned.format_name, rule.moment, rule.rounding, rule.overflow, rule.details()

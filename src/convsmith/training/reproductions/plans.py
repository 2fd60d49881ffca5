"""Plans that several papers share: one format for everything that a training stores."""

from __future__ import annotations

from collections.abc import Mapping

from convsmith.formats import Format, Rounding
from convsmith.precision.plan import Plan, Rule
from convsmith.precision.rule import PseudoGradient, Role

BATCH = 100
"""Images of an update in both papers; the loss is their mean, so an error is that of its image over this number."""

STORED: tuple[Role, ...] = ("weight", "bias", "update", "momentum")


def stored(name: str, parameters: Format, passed: Format, rounding: Rounding, slope: PseudoGradient = "identity") -> Plan:
    """Return the plan that stores parameters with their updates and momentum in one format, layer outputs and errors in another.

    Sums of products are float32, rounded once when a layer stores its result. Without master copies: what is trained is what is stored.
    ``slope``: what stands for the derivative of storing a layer's output; ``clipped`` sends no error back through one that saturated.
    """
    return Plan(stored_rules(parameters, passed, rounding, slope), name, master=False)


def stored_rules(parameters: Format, passed: Format, rounding: Rounding, slope: PseudoGradient = "identity") -> tuple[Rule, ...]:
    """Return the rules of `stored`, for the phases of a schedule."""
    rules = [Rule("*", role, parameters, rounding=rounding) for role in STORED]
    rules.append(Rule("*", "activation", passed, rounding=rounding, pseudo_gradient=slope))
    return (*rules, Rule("*", "error", passed, rounding=rounding))


def dynamic(name: str, ranges: Mapping[Role, int], bits: Mapping[Role, int], interval: int, most: float) -> Plan:
    """Return a plan of dynamic fixed point: each tensor of a role begins with its integer bits and keeps its width."""
    rules = [
        Rule(
            "*",
            role,
            Format.fixed(whole, bits[role] - whole, symmetric=True),
            rounding="nearest_away",
            scale="dynamic",
            interval=interval,
            max_overflow=most,
        )
        for role, whole in ranges.items()
    ]
    return Plan(tuple(rules), name, master=False)

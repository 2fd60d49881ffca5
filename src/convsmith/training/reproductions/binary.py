"""Plans with one-bit weights and activations, and the recipe that trains them: for the binary papers and any other network."""

from __future__ import annotations

from collections.abc import Sequence

from convsmith.formats import Format, Rounding
from convsmith.precision.plan import Plan, Rule


def binary_weights(layers: str, rounding: Rounding = "nearest_even", *, training_only: bool = False) -> Rule:
    """Return the rule of weights read as -1 or 1 from float32 copies that updates keep in -1 to 1; 0 is read as 1.

    References: Courbariaux, Bengio, David 2015, arXiv 1511.00363, sections 2.2 to 2.6.
    """
    return Rule(layers, "weight", Format.binary(), rounding=rounding, clip=1.0, training_only=training_only)


def binary_activations(layers: str) -> Rule:
    """Return the rule of activations stored as their signs, with the slope of a hard tanh (Courbariaux et al. 2016, arXiv 1602.02830)."""
    return Rule(layers, "activation", Format.binary(), pseudo_gradient="hard_tanh")


def connect(*layers: str, stochastic: bool = False) -> Plan:
    """Return BinaryConnect's plan; stochastic weights are drawn in training, and evaluation reads the float32 copies."""
    if stochastic:
        return Plan(tuple(binary_weights(name, "stochastic", training_only=True) for name in layers), "stochastic binary weights")
    return Plan(tuple(binary_weights(name) for name in layers), "binary weights")


def net(layers: str | Sequence[str], activations: str) -> Plan:
    """Return BinaryNet's plan: weights and activations of one bit."""
    names = [layers] if isinstance(layers, str) else layers
    return Plan((*(binary_weights(name) for name in names), binary_activations(activations)), "binary weights and activations")

"""The plan of a network that says itself where it is binary."""

from __future__ import annotations

from torch import nn

from convsmith import models
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.models.signs import Sign, SignConv2d, SignLinear
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule


def binary_plan(module: nn.Module, *, activations: bool = True) -> Plan:
    """Return the plan with signs wherever the network has layers of signs, and one bit for the weights of these.

    Float32 copies of the weights stay between -1 and 1. ``activations``: False leaves these in float32, as in the first stage of
    ReActNet's training or in BinaryConnect.

    Raises: ``UsageError`` for a network without such layers.
    """
    weights = [name for name, part in module.named_modules() if isinstance(part, SignConv2d | SignLinear)]
    signs = {name: part.gradient for name, part in module.named_modules() if isinstance(part, Sign)}
    if not weights:
        raise UsageError(
            f"{type(module).__name__} has no layers of signs; those of the zoo that have are {', '.join(models.names()['binary'])}, "
            "and any other network takes a plan of your own, with activations that can be negative"
        )
    rules = [Rule(name, "weight", Format.binary(), clip=1.0) for name in weights]
    if activations:
        rules += [Rule(name, "activation", Format.binary(), pseudo_gradient=gradient) for name, gradient in signs.items()]
    return Plan(tuple(rules), "binary" if activations else "binary weights")

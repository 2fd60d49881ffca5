"""The plan of a network that says itself where it is binary."""

from __future__ import annotations

from torch import nn

from convsmith import models
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.models.signs import Sign, SignConv2d, SignLinear
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.precision.schedule import Phase, Start


def binary_plan(module: nn.Module, *, weights: bool = True, activations: bool = True) -> Plan:
    """Return the plan with signs wherever the network has layers of signs, and one bit for the weights of these.

    Float32 copies of the weights stay between -1 and 1. ``activations``: False leaves these in float32, as in BinaryConnect. ``weights``:
    False leaves these in float32, as in the first stage of ReActNet's training.

    Raises: ``UsageError`` for a network without such layers, or without signs between them where only these were asked for.
    """
    layers = [name for name, part in module.named_modules() if isinstance(part, SignConv2d | SignLinear)]
    signs = {name: part.gradient for name, part in module.named_modules() if isinstance(part, Sign)}
    if not layers:
        raise UsageError(
            f"{type(module).__name__} has no layers of signs; those of the zoo that have are {', '.join(models.names()['binary'])}, "
            "and any other network takes a plan of your own, with activations that can be negative"
        )
    if not weights and not signs:
        raise UsageError(f"{type(module).__name__} has no signs between its layers, only binary weights: it is not trained in two stages")
    rules = [Rule(name, "weight", Format.binary(), clip=1.0) for name in layers] if weights else []
    if activations:
        rules += [Rule(name, "activation", Format.binary(), pseudo_gradient=gradient) for name, gradient in signs.items()]
    return Plan(tuple(rules), "binary" if weights and activations else "binary weights" if weights else "binary activations")


def two_stage_plan(module: nn.Module, epoch: int) -> Plan:
    """Return the plan of ReActNet's training: signs between layers of float32 weights, and from an epoch on weights of one bit too.

    References: Liu et al. 2020, arXiv 2003.03488, section 5; Martinez et al. 2020, arXiv 2003.11535, section 4.2.
    """
    first, whole = binary_plan(module, weights=False), binary_plan(module)
    return Plan(first.rules, "binary in two stages", phases=(Phase(Start("epoch", epoch), whole.rules),))

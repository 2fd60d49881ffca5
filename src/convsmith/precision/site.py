"""One place of a network where a torch function is called: its layer, its tensors, and what they are rounded by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from convsmith.precision.matching import Assignment
from convsmith.precision.operators import CLOSED, NORMS, PRODUCTS, SUMS, parameter_role
from convsmith.precision.parameter_reading import Reader
from convsmith.precision.pseudo_gradients import PSEUDO_GRADIENTS
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import Role

Place = int | str


@dataclass(slots=True)
class Site:
    """A call, the same in every forward pass: the ``occurrence``-th of ``operator`` in the module at ``path``.

    ``speaks``: it gives floating-point tensors at all.
    ``parameters``: which arguments are parameters of the network, by place. ``computes``: it gives new numbers, and does not only move
    some. ``merged``: nothing but one ReLU or clip reads what it gives, so that the store comes after that.
    """

    path: str
    operator: str
    occurrence: int
    layer: str = ""
    computes: bool = False
    speaks: bool = False
    merged: bool = False
    parameters: dict[Place, str] = field(default_factory=dict)
    readers: tuple[tuple[Place, Reader], ...] = ()
    activation: Quantizer | None = None
    error: Quantizer | None = None
    inside: Callable[..., Any] | None = None

    @property
    def call(self) -> tuple[str, str, int]:
        return self.path, self.operator, self.occurrence

    def tensors(self, trainable: dict[str, nn.Parameter]) -> list[Assignment]:
        """List what a rule can speak of here, without a rule."""
        found: list[Assignment] = []
        for place, name in self.parameters.items():
            axis = _channel_axis(self.operator, trainable[name].ndim)
            role = parameter_role(self.operator, place, name)
            found.append(Assignment(self.layer, self.operator, role, name, None, axis))
            if trainable[name].requires_grad:
                updated: tuple[Role, ...] = ("weight_gradient", "update", "momentum")
                found += [Assignment(self.layer, self.operator, role, name, None, axis) for role in updated]
        if self.operator in NORMS:
            found.append(Assignment(self.layer, self.operator, "norm_statistics", "statistics", None))
        if self.operator in PRODUCTS or self.operator in SUMS or self.operator in CLOSED:
            found.append(Assignment(self.layer, self.operator, "accumulator", "sums", None))
        if self.computes and not self.merged:
            found.append(Assignment(self.layer, self.operator, "activation", "output", None))
            found.append(Assignment(self.layer, self.operator, "error", "output", None))
        return found

    def replaced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the parameters among them as the plan has them."""
        changed, named = list(args), kwargs
        for place, reader in self.readers:
            if isinstance(place, int):
                changed[place] = reader(changed[place])
            else:
                named = {**named, place: reader(named[place])}
        return tuple(changed), named

    def store(self, y: Tensor) -> Tensor:
        """Return what was computed as the plan stores it, and see to the error that comes back to it."""
        if self.error is not None and y.requires_grad:
            y.register_hook(self.error.rounded)  # type: ignore[no-untyped-call]
        if self.activation is None or self.activation.idle:
            return y
        kind = self.activation.rule.pseudo_gradient
        if kind == "lsq":
            return self.activation.learned(y)
        if kind != "identity" and y.requires_grad:
            slope = PSEUDO_GRADIENTS[kind](y.detach(), self.activation.fmt)
            y.register_hook(lambda error: error * slope)  # type: ignore[no-untyped-call]
        self.activation.round_(y)
        return y


def _channel_axis(operator: str, dimensions: int) -> int | None:
    """Return the axis of a weight's output channels, None for a vector."""
    if dimensions < 2:
        return None
    if operator in ("matmul", "mm", "addmm", "bmm"):
        return dimensions - 1
    return 1 if "transpose" in operator else 0

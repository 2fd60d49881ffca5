"""How a layer reads its parameters: rounded on the way forward, the gradient rounded on the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convsmith.precision.pseudo_gradients import PSEUDO_GRADIENTS
from convsmith.precision.quantizer import Quantizer
from convsmith.precision.rule import LEARNED


class Reader:
    """One parameter as one layer reads it.

    ``once``: round once for each update, as if a parameter server sent the weights; otherwise at every reading.
    """

    def __init__(self, value: Quantizer | None, gradient: Quantizer | None) -> None:
        self.value, self.gradient = value, gradient
        self.once = value is not None and value.rule.moment == "batch"
        self._sent: tuple[int, int, Tensor] | None = None

    def __call__(self, parameter: Tensor) -> Tensor:
        if self.value is not None and self.value.rule.pseudo_gradient in LEARNED and not self.value.idle:
            return self.value.learned(parameter)
        if not torch.is_grad_enabled() or not parameter.requires_grad:
            return self.read(parameter)
        result: Tensor = Reading.apply(parameter, self)  # type: ignore[no-untyped-call]
        return result

    def read(self, parameter: Tensor) -> Tensor:
        """Return the numbers that the layer computes with."""
        if self.value is None or self.value.idle:
            return parameter
        if not self.once:
            return self.value.rounded(parameter)
        key = (self.value.step, parameter._version)
        if self._sent is None or self._sent[:2] != key:
            self._sent = (*key, self.value.rounded(parameter))
        return self._sent[2]


class Reading(torch.autograd.Function):
    """Read a parameter; its gradient passes through the pseudo-gradient and is rounded."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, reader: Reader) -> Tensor:
        ctx.reader = reader
        shaped = reader.value is not None and reader.value.rule.pseudo_gradient != "identity"
        ctx.parameter = parameter.detach() if shaped else None
        value = reader.read(parameter)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient, reader = gradients[0], ctx.reader
        if ctx.parameter is not None:
            gradient = gradient * PSEUDO_GRADIENTS[reader.value.rule.pseudo_gradient](ctx.parameter, reader.value.fmt)
        return (gradient if reader.gradient is None else reader.gradient.rounded(gradient)), None

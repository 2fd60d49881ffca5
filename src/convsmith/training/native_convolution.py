"""Convolutions of torch modules on the native kernels, forward and backward, as torch custom operators.

``convsmith::conv2d`` and its two gradients take the quickest of torch's own way and the native algorithms, measured once for each layer;
float32 on the processor only, anything else is torch's. Gradients are Winograd or GEMM convolutions of the output's gradient, and sums
over pixels for the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from convsmith.kernels import instruction_sets
from convsmith.training import convolution_ways as ways
from convsmith.training.convolution_ways import CHOICES, TORCH, Sizes


def sizes_of(stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Sizes:
    return Sizes((stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]), groups)


def natively(*tensors: Tensor) -> bool:
    return bool(instruction_sets()) and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def key(name: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], sizes: Sizes, last: bool) -> tuple[Any, ...]:
    return name, tuple(x_shape), tuple(w_shape), sizes, last


def is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def last(x: Tensor) -> Tensor:
    """Return images with channels last, as the operators give them whatever they get."""
    return x.contiguous(memory_format=torch.channels_last)


def torch_gradients(dy: Tensor, x: Tensor, w: Tensor, sizes: Sizes, mask: list[bool]) -> Tensor:
    """Return one of torch's own gradients."""
    found = torch.ops.aten.convolution_backward(
        dy, x, w, None, sizes.stride, sizes.padding, sizes.dilation, False, [0, 0], sizes.groups, [*mask, False]
    )
    return cast(Tensor, found[0] if mask[0] else found[1])


@torch.library.custom_op("convsmith::conv2d", mutates_args=())
def conv2d(x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Tensor:
    """Convolve NCHW by KCRS; channels last."""
    sizes = sizes_of(stride, padding, dilation, groups)
    found = {TORCH: lambda: last(torch.nn.functional.conv2d(x, w, None, stride, padding, dilation, groups))}
    if natively(x, w):
        for name in ways.names_for(tuple(x.shape), tuple(w.shape), sizes.attributes()):
            found[name] = lambda name=name: ways.convolve(name, x, w, sizes.attributes())  # type: ignore[misc]
    return CHOICES.run(key("forward", tuple(x.shape), tuple(w.shape), sizes, is_last(x)), found)


@torch.library.custom_op("convsmith::conv2d_input_gradient", mutates_args=())
def conv2d_input_gradient(
    dy: Tensor, x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """Return the gradient of the image; of ``x`` only the sizes matter."""
    sizes, shape = sizes_of(stride, padding, dilation, groups), tuple(x.shape)
    found = {TORCH: lambda: last(torch_gradients(dy, x, w, sizes, [True, False]))}
    whole = max(dilation) == 1 and all(p < size for p, size in zip(padding, w.shape[2:], strict=True))
    if whole and natively(dy, w):
        for name in image_names(dy, w, sizes):
            found[name] = lambda name=name: ways.input_gradient(dy, shape, w, sizes, lambda *given: ways.convolve(name, *given))  # type: ignore[misc]
    elif whole and dy.dtype == torch.float64:
        found = {"phases": lambda: last(ways.input_gradient(dy, shape, w, sizes, torch_convolution))}
    return CHOICES.run(key("image", shape, tuple(w.shape), sizes, is_last(dy)), found)


def image_names(dy: Tensor, w: Tensor, sizes: Sizes) -> list[str]:
    """Return the native algorithms that take the convolutions which make the gradient of the image."""
    if sizes.stride != (1, 1):
        return ["gemm"]
    k, c, r, s = w.shape
    pads = r - 1 - sizes.padding[0], s - 1 - sizes.padding[1]
    return ways.names_for(tuple(dy.shape), (c * sizes.groups, k // sizes.groups, r, s), {"pads": pads * 2, "group": sizes.groups})


def torch_convolution(x: Tensor, w: Tensor, attributes: dict[str, Any]) -> Tensor:
    """Convolve by torch with zeros that differ before and after."""
    top, left, bottom, right = attributes["pads"]
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    return torch.nn.functional.conv2d(padded, w, None, 1, 0, 1, attributes["group"])


@torch.library.custom_op("convsmith::conv2d_weight_gradient", mutates_args=())
def conv2d_weight_gradient(
    dy: Tensor, x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """Return the gradient of the weights; of ``w`` only the sizes matter."""
    sizes, shape = sizes_of(stride, padding, dilation, groups), tuple(w.shape)
    found = {TORCH: lambda: torch_gradients(dy, x, w, sizes, [False, True]).contiguous()}
    if natively(dy, x):
        for name in ways.gradient_names(tuple(x.shape), shape, sizes):
            found[name] = lambda name=name: ways.weight_gradient(name, dy, x, shape, sizes)  # type: ignore[misc]
    return CHOICES.run(key("weights", tuple(x.shape), shape, sizes, is_last(x)), found)


@conv2d.register_fake
def _(x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Tensor:
    return last(torch.nn.functional.conv2d(x, w, None, stride, padding, dilation, groups))


@conv2d_input_gradient.register_fake
def _(dy: Tensor, x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@conv2d_weight_gradient.register_fake
def _(dy: Tensor, x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Tensor:
    return torch.empty_like(w, memory_format=torch.contiguous_format)


def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, *ctx.sizes = inputs
    ctx.save_for_backward(x, w)


def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    dx = conv2d_input_gradient(dy, x, w, *ctx.sizes) if ctx.needs_input_grad[0] else None
    dw = conv2d_weight_gradient(dy, x, w, *ctx.sizes) if ctx.needs_input_grad[1] else None
    return dx, dw, None, None, None, None


conv2d.register_autograd(backward, setup_context=remember)


class NativeConv2d(nn.Conv2d):
    """A convolution layer on ``convsmith::conv2d``; padding other than zeros, and autocast, go to torch."""

    def forward(self, input: Tensor) -> Tensor:
        if (
            isinstance(self.padding, str)
            or self.padding_mode != "zeros"
            or torch.is_autocast_enabled("cpu")
            or not natively(input, self.weight)
        ):
            return super().forward(input)
        pairs = [list(values) for values in (self.stride, self.padding, self.dilation)]
        y: Tensor = conv2d(input, self.weight, *pairs, self.groups)
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


@contextmanager
def native_convolutions(module: nn.Module, *, deterministic: bool = False) -> Iterator[None]:
    """Let the plain convolution layers of a module run on the native kernels for a while; ``deterministic``: by rule, not by measuring."""
    changed = [part for part in module.modules() if type(part) is nn.Conv2d]
    CHOICES.begin(deterministic)
    try:
        for part in changed:
            part.__class__ = NativeConv2d
        yield
    finally:
        for part in changed:
            part.__class__ = nn.Conv2d

"""Convolutions of torch with every multiply and add rounded: of one, two and three dimensions, and transposed ones.

All are the two-dimensional products of `kernels.rounded_convolution`. A transposed convolution is the gradient of a convolution's input.
In three dimensions the depths of a window are channels of two-dimensional maps, so that all terms of an output are one sum, in C order of
(c, t, r, s); in the gradient of the input, taps in depth between the strides are zeros, and terms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.errors import UnsupportedError
from convsmith.kernels.geometry import ConvolutionShape, convolution_shape
from convsmith.precision import tensor_products
from convsmith.precision.products import Accumulator
from convsmith.precision.steps import Steps


class Convolution(torch.autograd.Function):
    """Convolve two-dimensional maps, without bias; ``transposed``: be the gradient of such a convolution's input, as a function of errors.

    ``shape`` is the convolution's in both. The products are parts ``part`` (forward), + 1 (input) and + 2 (weights).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, shape: ConvolutionShape, transposed: bool, sums: Accumulator, part: int) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.shape, ctx.transposed, ctx.sums, ctx.part = shape, transposed, sums, part
        product = tensor_products.input_gradient if transposed else tensor_products.convolve
        return product(x, w, shape, sums.products, **sums.keys(part))

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (x, w), shape, sums, part = ctx.saved_tensors, ctx.shape, ctx.sums, ctx.part
        error, dx, dw = errors[0], None, None
        if ctx.needs_input_grad[0]:
            product = tensor_products.convolve if ctx.transposed else tensor_products.input_gradient
            dx = product(error, w, shape, sums.products, **sums.keys(part + 1))
        if ctx.needs_input_grad[1]:
            maps, sent = (error, x) if ctx.transposed else (x, error)
            dw = tensor_products.weight_gradient(maps, sent, shape, sums.products, **sums.keys(part + 2))
        return dx, dw, None, None, None, None


class Volume(torch.autograd.Function):
    """Convolve three-dimensional maps, without bias; ``transposed``: be the gradient of such a convolution's input, of maps of ``size``.

    ``geometry`` is (strides, pads, dilations, groups), the convolution's in both.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, geometry: Any, transposed: bool, size: tuple[int, ...], sums: Accumulator, part: int
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry, ctx.transposed, ctx.size, ctx.sums, ctx.part = geometry, transposed, size, sums, part
        return _volume_input(x, w, size, geometry, sums, part) if transposed else _volume(x, w, geometry, sums, part)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None]:
        (x, w), geometry, sums, part = ctx.saved_tensors, ctx.geometry, ctx.sums, ctx.part
        error, dx, dw = errors[0].detach(), None, None
        if ctx.needs_input_grad[0] and ctx.transposed:
            dx = _volume(error, w, geometry, sums, part + 1)
        elif ctx.needs_input_grad[0]:
            dx = _volume_input(error, w, tuple(x.shape[2:]), geometry, sums, part + 1)
        if ctx.needs_input_grad[1]:
            seen, sent = (error, x.detach()) if ctx.transposed else (x, error)
            maps = _slices(seen, w, geometry)
            shape, flat = _flat_shape(tuple(maps.shape), w.detach().flatten(1, 2), geometry), sent.transpose(1, 2).flatten(0, 1)
            found = tensor_products.weight_gradient(maps, flat, shape, sums.products, **sums.keys(part + 2))
            dw = found.reshape(w.shape)
        return dx, dw, None, None, None, None, None


def _volume(x: Tensor, w: Tensor, geometry: Any, sums: Accumulator, part: int) -> Tensor:
    maps, flat = _slices(x, w, geometry), w.detach().flatten(1, 2)
    shape = _flat_shape(tuple(maps.shape), flat, geometry)
    return _volumes(tensor_products.convolve(maps, flat, shape, sums.products, **sums.keys(part)), len(x))


def _volume_input(error: Tensor, w: Tensor, size: tuple[int, ...], geometry: Any, sums: Accumulator, part: int) -> Tensor:
    taps = w.detach().transpose(1, 2).flatten(0, 1)
    shape = _flat_shape((len(error) * size[0], w.shape[1] * geometry[3], *size[1:]), taps, geometry)
    met = _met(error.detach(), size[0], w, geometry)
    return _volumes(tensor_products.input_gradient(met, taps, shape, sums.products, **sums.keys(part)), len(error))


def convolution(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """``F.conv2d``; the bias is one more addition after the last product."""
    if steps.sums is None:
        return steps(F.conv2d(x, weight, bias, stride, padding, dilation, groups))
    if x.ndim == 3:
        return convolution(steps, x[None], weight, bias, stride, padding, dilation, groups)[0]
    kernel, spread = tuple(weight.shape[2:]), _spread(dilation, 2)
    x, pads = _padded(x, padding, kernel, spread)
    attributes = {"strides": _spread(stride, 2), "pads": (*pads, *pads), "dilations": spread, "group": groups}
    shape = convolution_shape(tuple(x.shape), tuple(weight.shape), attributes)
    y: Tensor = Convolution.apply(x, weight, shape, False, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return _biased(steps, y, bias)


def convolution_1d(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """``F.conv1d``: maps of one row."""
    if steps.sums is None:
        return steps(F.conv1d(x, weight, bias, stride, padding, dilation, groups))
    row = padding if isinstance(padding, str) else (0, *_spread(padding, 1))
    hops = (1, *_spread(stride, 1)), row, (1, *_spread(dilation, 1))
    return convolution(steps, x.unsqueeze(-2), weight.unsqueeze(2), bias, *hops, groups).squeeze(-2)


def convolution_3d(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """``F.conv3d``."""
    if steps.sums is None:
        return steps(F.conv3d(x, weight, bias, stride, padding, dilation, groups))
    if x.ndim == 4:
        return convolution_3d(steps, x[None], weight, bias, stride, padding, dilation, groups)[0]
    spread = _spread(dilation, 3)
    x, pads = _padded(x, padding, tuple(weight.shape[2:]), spread)
    geometry = (_spread(stride, 3), pads, spread, groups)
    whole = tuple(x.shape[2:])
    y: Tensor = Volume.apply(x, weight, geometry, False, whole, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return _biased(steps, y, bias)


def transposed(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """``F.conv_transpose2d``."""
    if steps.sums is None:
        return steps(F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation))
    if x.ndim == 3:
        return transposed(steps, x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    strides, pads, more, spread = (_spread(value, 2) for value in (stride, padding, output_padding, dilation))
    size = _transposed_size(x, weight, strides, pads, more, spread)
    attributes = {"strides": strides, "pads": (*pads, *pads), "dilations": spread, "group": groups}
    shape = convolution_shape((len(x), weight.shape[1] * groups, *size), tuple(weight.shape), attributes)
    y: Tensor = Convolution.apply(x, weight, shape, True, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return _biased(steps, y, bias)


def transposed_1d(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """``F.conv_transpose1d``: maps of one row."""
    if steps.sums is None:
        return steps(F.conv_transpose1d(x, weight, bias, stride, padding, output_padding, groups, dilation))
    (hop,), (pad,), (more,), (reach,) = (_spread(value, 1) for value in (stride, padding, output_padding, dilation))
    rows = x.unsqueeze(-2), weight.unsqueeze(2)
    return transposed(steps, *rows, bias, (1, hop), (0, pad), (0, more), groups, (1, reach)).squeeze(-2)


def transposed_3d(
    steps: Steps, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """``F.conv_transpose3d``."""
    if steps.sums is None:
        return steps(F.conv_transpose3d(x, weight, bias, stride, padding, output_padding, groups, dilation))
    if x.ndim == 4:
        return transposed_3d(steps, x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    strides, pads, more, spread = (_spread(value, 3) for value in (stride, padding, output_padding, dilation))
    size = _transposed_size(x, weight, strides, pads, more, spread)
    geometry = (strides, pads, spread, groups)
    y: Tensor = Volume.apply(x, weight, geometry, True, size, steps.sums, steps.part(3))  # type: ignore[no-untyped-call]
    return _biased(steps, y, bias)


def _transposed_size(
    x: Tensor, w: Tensor, strides: tuple[int, ...], pads: tuple[int, ...], more: tuple[int, ...], spread: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the sides of the maps that a transposed convolution makes.

    Raises: UnsupportedError where the convolution of those would not give maps of the size of ``x``.
    """
    if any(extra >= hop for extra, hop in zip(more, strides, strict=True)):
        raise UnsupportedError(f"output_padding {more} of strides {strides} is not emulated operation by operation; pad the result by hand")
    return tuple(
        (side - 1) * hop - 2 * pad + reach * (taps - 1) + extra + 1
        for side, hop, pad, reach, taps, extra in zip(x.shape[2:], strides, pads, spread, w.shape[2:], more, strict=True)
    )


def _biased(steps: Steps, y: Tensor, bias: Tensor | None) -> Tensor:
    return steps(y if bias is None else steps.add_bias(y, bias.reshape(1, -1, *(1,) * (y.ndim - 2))))


def _volumes(maps: Tensor, images: int) -> Tensor:
    """Return two-dimensional maps as depths again: (n d, c, h, w) to (n, c, d, h, w)."""
    return maps.reshape(images, -1, *maps.shape[1:]).transpose(1, 2).contiguous()


def _slices(x: Tensor, w: Tensor, geometry: Any) -> Tensor:
    """Return the depths that each window of depth sees as channels: (n, c, d, h, w) to (n p, c t, h, w)."""
    (hop, *_), (pad, *_), (reach, *_), _ = geometry
    padded = F.pad(x.detach(), (0, 0, 0, 0, pad, pad))
    count = (padded.shape[2] - reach * (w.shape[2] - 1) - 1) // hop + 1
    at = torch.arange(count, device=x.device)[:, None] * hop + torch.arange(w.shape[2], device=x.device) * reach
    return padded[:, :, at].permute(0, 2, 1, 3, 4, 5).flatten(2, 3).flatten(0, 1)


def _met(error: Tensor, depth: int, w: Tensor, geometry: Any) -> Tensor:
    """Return the errors that each depth of the input meets through each tap of depth, zeros where none: (n d, k t, p, q)."""
    (hop, *_), (pad, *_), (reach, *_), _ = geometry
    distance = torch.arange(depth, device=w.device)[:, None] + pad - torch.arange(w.shape[2], device=w.device) * reach
    met = (distance % hop == 0) & (distance >= 0) & (distance < hop * error.shape[2])
    found: Tensor = error[:, :, torch.where(met, distance // hop, 0)] * met[:, :, None, None]
    return found.permute(0, 2, 1, 3, 4, 5).flatten(2, 3).flatten(0, 1)


def _flat_shape(maps: tuple[int, ...], w: Tensor, geometry: Any) -> ConvolutionShape:
    """Return the geometry of the two-dimensional maps of a volume."""
    strides, pads, spread, groups = geometry
    attributes = {"strides": strides[1:], "pads": (*pads[1:], *pads[1:]), "dilations": spread[1:], "group": groups}
    return convolution_shape(maps, tuple(w.shape), attributes)


def _padded(x: Tensor, padding: Any, kernel: tuple[int, ...], spread: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the maps and the padding of each axis, which may be "same" or "valid"; "same" of even kernels has one zero more behind."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        return x, _spread(padding, len(kernel))
    reach = [step * (side - 1) for step, side in zip(spread, kernel, strict=True)]
    if any(length % 2 for length in reach):
        x = F.pad(x, [end for length in reversed(reach) for end in (0, length % 2)])
    return x, tuple(length // 2 for length in reach)


def _spread(value: Any, axes: int) -> tuple[int, ...]:
    """Return one number for each axis."""
    numbers = (value,) if isinstance(value, int) else tuple(int(number) for number in value)
    return numbers * axes if len(numbers) == 1 else numbers

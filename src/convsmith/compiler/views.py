"""Arrays as places in memory: which buffer, where in it, and how far apart the elements of each axis lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from convsmith.graph import Shape

Space = Literal["arena", "constant", "input", "output"]
Order = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Float32 numbers, uint8 codes or words of 64 packed signs of a buffer; axes are those of the graph (NCHW).

    ``strides`` and ``offset`` count elements.
    ``buffer`` numbers the buffers of each space. A stride of 0 repeats, a negative one goes backwards.
    """

    space: Space
    buffer: int
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0
    dtype: str = "float32"

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def dense_strides(shape: Sequence[int], order: Order | None = None) -> tuple[int, ...]:
    """Return strides without gaps; ``order`` lists the axes from the outermost to the innermost in memory."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape)) if order is None else order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def usual_order(rank: int) -> Order:
    """Return channels last for images, else rows first."""
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


def memory_order(view: View) -> Order:
    """Return the axes from the outermost to the innermost in memory; axes of one element stay where they usually are."""
    usual = usual_order(len(view.shape))
    long = sorted((axis for axis in usual if view.shape[axis] > 1), key=lambda axis: -abs(view.strides[axis]))
    rest = iter(long)
    return tuple(next(rest) if view.shape[axis] > 1 else axis for axis in usual)


def lies_as(view: View, strides: Sequence[int]) -> bool:
    """Tell whether the view's elements lie as far apart as these strides say; axes of one element do not count."""
    return all(n == 1 or a == b for n, a, b in zip(view.shape, view.strides, strides, strict=True))


def is_dense(view: View, order: Order | None = None) -> bool:
    """Tell whether the view has no gaps in an order of its axes, by default in that in which it lies."""
    return lies_as(view, dense_strides(view.shape, memory_order(view) if order is None else order))


def merged(view: View, axes: Sequence[int]) -> tuple[int, int] | None:
    """Return size and stride of several axes, outermost first, seen as one; None when they are not evenly spaced."""
    size, stride = 1, 1
    for axis in reversed([axis for axis in axes if view.shape[axis] != 1]):
        if size == 1:
            stride = view.strides[axis]
        elif view.strides[axis] != size * stride:
            return None
        size *= view.shape[axis]
    return size, stride


def pixel_pitch(view: View) -> int | None:
    """Return the floats from pixel to pixel of an NCHW view that lies as NHWC, maybe as a slice of channels; None when it does not."""
    if view.shape[1] > 1 and view.strides[1] != 1:
        return None
    pixels = merged(view, (0, 2, 3))
    if pixels is None:
        return None
    pitch = pixels[1] if pixels[0] > 1 else view.shape[1]
    return pitch if pitch >= view.shape[1] else None


def changed(view: View, function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> View:
    """Return the view that a NumPy function makes of it, such as a slice or a transposition; it must not look at the numbers."""
    base = np.zeros(1, np.int8)
    array = np.lib.stride_tricks.as_strided(base, view.shape, view.strides)
    result = function(array)
    moved = result.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    return replace(view, shape=result.shape, strides=result.strides, offset=view.offset + moved)


def expanded(view: View, shape: Shape) -> View:
    """Return the view broadcast to a shape."""
    return changed(view, lambda array: np.broadcast_to(array, shape))


def reshaped(view: View, shape: Shape) -> View | None:
    """Return the same numbers in row-major order under another shape, or None when they would have to be copied."""
    if not view.size:
        return replace(view, shape=shape, strides=dense_strides(shape))
    groups = merged_axes(view)
    strides: list[int] = []
    remaining = list(reversed(groups))
    size, stride = remaining.pop() if remaining else (1, 1)
    for n in shape:
        if n == 1:
            strides.append(1)
            continue
        while size == 1 and remaining:
            size, stride = remaining.pop()
        if size % n:
            return None
        size //= n
        strides.append(size * stride)
    return replace(view, shape=shape, strides=tuple(strides))


def merged_axes(view: View) -> list[tuple[int, int]]:
    """Return sizes and strides of the view's axes with neighbours made one where they are evenly spaced."""
    groups: list[tuple[int, int]] = []
    for n, stride in zip(view.shape, view.strides, strict=True):
        if n == 1:
            continue
        if groups and groups[-1][1] == n * stride:
            groups[-1] = groups[-1][0] * n, stride
        else:
            groups.append((n, stride))
    return groups


def split_axis(view: View, axis: int, sizes: tuple[int, ...]) -> View:
    """Return the view with one axis seen as several, the first the outermost."""
    steps = tuple(step * view.strides[axis] for step in dense_strides(sizes))
    shape = (*view.shape[:axis], *sizes, *view.shape[axis + 1 :])
    return replace(view, shape=shape, strides=(*view.strides[:axis], *steps, *view.strides[axis + 1 :]))

"""What the contracts of convolutions share: odd shapes, and arrays of garbage between guards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from convsmith.kernels import ConvolutionShape, IntegerEpilogue, integer_native, native

Array = np.ndarray[Any, Any]

PADS = [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3), (3, 3, 3, 3)]


class Guarded:
    """An array full of one byte, ``start`` bytes after a multiple of 64, in memory of that byte."""

    def __init__(self, shape: Sequence[int], dtype: Any, fill: int, start: int = 64) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.fill, self.memory = fill, native.aligned_bytes(start + size + 256)
        self.memory[:] = fill
        self.array: Array = self.memory[start : start + size].view(dtype).reshape(shape)
        self.before, self.after = self.memory[:start], self.memory[start + size :]

    def check(self) -> None:
        """Assert that nothing was written before or after the array."""
        assert np.all(self.before == self.fill) and np.all(self.after == self.fill)


def convolve_codes(
    name: str,
    x: Array,
    zero: int,
    w: Array,
    shape: ConvolutionShape,
    e: IntegerEpilogue | None = None,
    *,
    offset: int = 0,
    threads: int = 2,
) -> Array:
    """Convolve codes with garbage in the output and in the scratch memory, between guards."""
    e = e or IntegerEpilogue()
    batch, channels, *output = shape.output
    y = Guarded((batch, *output, channels), integer_native.TYPES[e.result], 0xA5, 80 + offset)
    scratch = Guarded((integer_native.workspace_bytes(name, shape, threads),), np.uint8, 0xA5)
    prepared = integer_native.prepare(name, w, shape)
    integer_native.run_nhwc(name, x, prepared, shape, e, zero=zero, out_nhwk=y.array, workspace=scratch.array, threads=threads)
    y.check()
    scratch.check()
    return y.array


def odd_shape(
    data: st.DataObject, kernels: Sequence[tuple[int, int]], largest: int
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Draw the shapes of an image of one and of weights, and attributes, that fit each other; images up to ``largest``."""
    groups = data.draw(st.integers(1, 3))
    small = st.integers(1, 3)
    c, k = groups * data.draw(st.integers(1, 20)), groups * data.draw(st.integers(1, 40))
    kernel = data.draw(st.sampled_from(kernels))
    image = (data.draw(st.integers(1, largest)), data.draw(st.integers(1, largest)))
    strides, dilations = (data.draw(small), data.draw(small)), (data.draw(small), data.draw(small))
    pads = tuple(data.draw(st.integers(0, 4)) for _ in range(4))
    reach = [d * (size - 1) + 1 for d, size in zip(dilations, kernel, strict=True)]
    assume(all(side + pads[i] + pads[i + 2] >= reach[i] for i, side in enumerate(image)))
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": groups}
    return (data.draw(small), c, *image), (k, c // groups, *kernel), attributes

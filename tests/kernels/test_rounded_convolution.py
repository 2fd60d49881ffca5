"""Rounded convolutions against their definition one output at a time, and against torch where everything is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rounded_oracles import dot, key_of, telling_factors

from convsmith import _native, formats
from convsmith.errors import UsageError
from convsmith.kernels import ConvolutionShape, convolution_shape
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.rounded_convolution import convolve, input_gradient, weight_gradient

F32 = NDArray[np.float32]
SEED, STREAM = 99, 5
CASES = [
    {"x": (2, 2, 4, 5), "w": (2, 2, 3, 3), "pads": (1, 1, 1, 1)},
    {"x": (1, 4, 5, 4), "w": (4, 2, 3, 2), "strides": (2, 3), "pads": (1, 0, 2, 1), "group": 2},
    {"x": (2, 3, 6, 5), "w": (6, 1, 2, 3), "dilations": (2, 2), "pads": (0, 2, 1, 2), "group": 3},
    {"x": (1, 1, 5, 5), "w": (3, 1, 1, 1), "strides": (2, 2)},
]


def geometry(case: dict[str, object]) -> tuple[ConvolutionShape, dict[str, object]]:
    attributes = {key: value for key, value in case.items() if key not in ("x", "w")}
    return convolution_shape(case["x"], case["w"], attributes), attributes  # type: ignore[arg-type]


class Definition:
    """The three products, one output at a time, over lists of terms."""

    def __init__(self, shape: ConvolutionShape, arithmetic: Arithmetic) -> None:
        self.shape, self.arithmetic, self.key = shape, arithmetic, key_of(SEED, STREAM)
        self.depth, self.breadth = shape.in_channels // shape.groups, shape.out_channels // shape.groups

    def source(self, p: int, q: int, r: int, s: int) -> tuple[int, int]:
        w = self.shape.windows
        return p * w.strides[0] + r * w.dilations[0] - w.before[0], q * w.strides[1] + s * w.dilations[1] - w.before[1]

    @staticmethod
    def at(image: F32, y: int, x: int) -> float:
        inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
        return float(image[y, x]) if inside else 0.0

    def fill(self, size: tuple[int, ...], terms: object) -> F32:
        out = np.zeros(size, np.float32)
        for element, index in enumerate(np.ndindex(*size)):
            pairs = list(terms(*index))  # type: ignore[operator]
            out[index] = dot([a for a, _ in pairs], [b for _, b in pairs], self.arithmetic, element, self.key)
        return out

    def forward(self, x: F32, w: F32) -> F32:
        def terms(n: int, k: int, p: int, q: int) -> object:
            for c, r, s in np.ndindex(*w.shape[1:]):
                yield float(w[k, c, r, s]), self.at(x[n, k // self.breadth * self.depth + c], *self.source(p, q, r, s))

        return self.fill(self.shape.output, terms)

    def input_gradient(self, dy: F32, w: F32) -> F32:
        strides = self.shape.windows.strides

        def terms(n: int, c: int, y: int, x: int) -> object:
            group = c // self.depth
            for k, r, s in np.ndindex(self.breadth, *w.shape[2:]):
                top, left = self.source(0, 0, r, s)
                if (y - top) % strides[0] == 0 and (x - left) % strides[1] == 0:
                    channel = group * self.breadth + k
                    error = self.at(dy[n, channel], (y - top) // strides[0], (x - left) // strides[1])
                    yield float(w[channel, c % self.depth, r, s]), error

        return self.fill((self.shape.batch, self.shape.in_channels, *self.shape.size), terms)

    def weight_gradient(self, x: F32, dy: F32) -> F32:
        def terms(k: int, c: int, r: int, s: int) -> object:
            for n, p, q in np.ndindex(self.shape.batch, *self.shape.windows.output):
                yield float(dy[n, k, p, q]), self.at(x[n, k // self.breadth * self.depth + c], *self.source(p, q, r, s))

        return self.fill((self.shape.out_channels, self.depth, *self.shape.windows.kernel), terms)


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize(
    "arithmetic",
    [
        Arithmetic(formats.parse("e4m3fn"), rounding="stochastic", random_bits=7),
        Arithmetic(formats.parse("q8.8"), rounding="stochastic"),
        Arithmetic(formats.parse("e5m10"), None, "nearest_away", "infinity", order="kahan"),
    ],
    ids=["e4m3fn", "q8.8", "kahan"],
)
def test_equals_the_definition(number: int, arithmetic: Arithmetic) -> None:
    shape, _ = geometry(CASES[number])
    x = telling_factors((1, int(np.prod(CASES[number]["x"]))), arithmetic.format, 1).reshape(CASES[number]["x"])  # type: ignore[arg-type]
    w = telling_factors((1, int(np.prod(CASES[number]["w"]))), arithmetic.format, 2).reshape(CASES[number]["w"])  # type: ignore[arg-type]
    dy = telling_factors((1, int(np.prod(shape.output))), arithmetic.format, 3).reshape(shape.output)
    definition = Definition(shape, arithmetic)
    for level in ("reference", _native.levels()[-1]):
        y = convolve(x, w, shape, arithmetic, seed=SEED, stream=STREAM, isa=level)
        np.testing.assert_array_equal(y.view(np.uint32), definition.forward(x, w).view(np.uint32))
        dx = input_gradient(dy, w, shape, arithmetic, seed=SEED, stream=STREAM, isa=level)
        np.testing.assert_array_equal(dx.view(np.uint32), definition.input_gradient(dy, w).view(np.uint32))
        dw = weight_gradient(x, dy, shape, arithmetic, seed=SEED, stream=STREAM, isa=level)
        np.testing.assert_array_equal(dw.view(np.uint32), definition.weight_gradient(x, dy).view(np.uint32))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_equals_torch_where_nothing_rounds(
    seed: int,
    batch: int,
    groups: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int],
) -> None:
    if any(n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip(size, pads, dilations, kernel, strict=True)):
        return
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (batch, channels[0] * groups, *size)).astype(np.float32)
    w = rng.integers(-3, 4, (channels[1] * groups, channels[0], *kernel)).astype(np.float32)
    attributes = {"strides": strides, "dilations": dilations, "pads": (*pads, *pads), "group": groups}
    shape = convolution_shape(x.shape, w.shape, attributes)
    x_t, w_t = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    y_t = torch.conv2d(x_t, w_t, None, strides, pads, dilations, groups)
    dy = rng.integers(-3, 4, tuple(y_t.shape)).astype(np.float32)
    y_t.backward(torch.tensor(dy))  # type: ignore[no-untyped-call]
    # Integers below 2^13, and 16 bits of fixed point: every product and sum is exact.
    for arithmetic in (Arithmetic(formats.parse("e8m13")), Arithmetic(formats.parse("int16"))):
        np.testing.assert_array_equal(convolve(x, w, shape, arithmetic), y_t.detach().numpy())
        np.testing.assert_array_equal(input_gradient(dy, w, shape, arithmetic), x_t.grad.numpy())  # type: ignore[union-attr]
        np.testing.assert_array_equal(weight_gradient(x, dy, shape, arithmetic), w_t.grad.numpy())  # type: ignore[union-attr]


def test_larger_than_a_tile_on_every_level() -> None:
    arithmetic = Arithmetic(formats.parse("e5m10"), rounding="stochastic", random_bits=6)
    shape = convolution_shape((2, 5, 17, 19), (7, 5, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 1)})
    x = telling_factors((1, 2 * 5 * 17 * 19), arithmetic.format, 1).reshape(2, 5, 17, 19)
    w = telling_factors((1, 7 * 45), arithmetic.format, 2).reshape(7, 5, 3, 3)
    dy = telling_factors((1, int(np.prod(shape.output))), arithmetic.format, 3).reshape(shape.output)
    for function, arrays in ((convolve, (x, w)), (input_gradient, (dy, w)), (weight_gradient, (x, dy))):
        want = function(*arrays, shape, arithmetic, seed=SEED, isa="reference")
        for level in _native.levels()[1:]:
            for threads in (1, 3):
                got = function(*arrays, shape, arithmetic, seed=SEED, isa=level, threads=threads)
                np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def test_other_shapes_are_refused() -> None:
    shape = convolution_shape((1, 2, 5, 5), (3, 2, 3, 3), {})
    x, w = np.zeros((1, 2, 5, 5), np.float32), np.zeros((3, 2, 3, 3), np.float32)
    arithmetic = Arithmetic(formats.parse("fp16"))
    with pytest.raises(UsageError, match=r"x_nchw has shape \(1, 2, 5, 4\); this convolution needs \(1, 2, 5, 5\)"):
        convolve(x[..., :4], w, shape, arithmetic)
    with pytest.raises(UsageError, match=r"dy_nkpq has shape \(1, 2, 5, 5\); this convolution needs \(1, 3, 3, 3\)"):
        input_gradient(x, w, shape, arithmetic)
    with pytest.raises(UsageError, match="w_kcrs must have 4 axes"):
        convolve(x, w[0], shape, arithmetic)

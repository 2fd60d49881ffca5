"""Winograd's convolution of codes at every instruction set: the bits of its NumPy form, and the stated distance from the exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convolution_contract import convolve_codes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convsmith.compiler.choices import candidates
from convsmith.kernels import ALGORITHMS, ConvolutionShape, IntegerEpilogue, convolution_shape, instruction_sets, integer_native, integers
from convsmith.kernels import integer_winograd as plain
from convsmith.kernels.integers import Middle

Array = np.ndarray[Any, Any]

CASES = [(level, name) for level in instruction_sets()[1:] for name in plain.SIDES]


def problem(x_shape: tuple[int, ...], outputs: int, pads: tuple[int, ...], dtype: str) -> tuple[ConvolutionShape, Array, int, Array]:
    """Return a convolution with codes over the whole range."""
    n, c, *image = x_shape
    generator, limits = np.random.default_rng(c + outputs), np.iinfo(dtype)
    shape = convolution_shape(x_shape, (outputs, c, 3, 3), {"pads": pads}, dtype)
    x = generator.integers(limits.min, limits.max + 1, (n, *image, c)).astype(dtype)
    w = generator.integers(-128, 128, (outputs, c, 3, 3)).astype(np.int8)
    return shape, x, int(generator.integers(limits.min, limits.max + 1)), w


def epilogues(shape: ConvolutionShape) -> list[IntegerEpilogue]:
    """Return sums, numbers, codes, and codes with a residual that are rounded before it."""
    generator, k = np.random.default_rng(1), shape.out_channels
    bias = generator.integers(-10000, 10000, k).astype(np.int32)
    factor = (generator.uniform(0.5, 2, k) * 1e-4).astype(np.float32)
    residual = generator.integers(0, 256, (shape.batch, *shape.windows.output, k), np.uint8)
    return [
        IntegerEpilogue(bias=bias),
        IntegerEpilogue("numbers", bias, factor),
        IntegerEpilogue("codes", bias, factor, 10, 10, 255),
        IntegerEpilogue("codes", bias, factor, 100, 3, 250, residual, 77, 0.3, Middle(1.5, -100, 90)),
    ]


@pytest.mark.parametrize(("level", "name"), CASES)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_same_bits_as_in_numpy(level: str, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the channels, borders, epilogue and threads."""
    monkeypatch.setenv("CONVSMITH_ISA", level)
    for x_shape, outputs, pads in (
        ((1, 1, 3, 3), 1, (1, 1, 1, 1)),
        ((2, 5, 9, 8), 7, (1, 0, 2, 1)),
        ((1, 33, 7, 11), 40, (0, 0, 0, 0)),
        ((2, 70, 13, 6), 33, (1, 1, 1, 1)),
        ((3, 16, 30, 29), 17, (3, 2, 1, 4)),
    ):
        shape, x, zero, w = problem(x_shape, outputs, pads, dtype)
        assert integer_native.supports(name, shape)
        for e in epilogues(shape):
            expected = plain.convolve(name, x, zero, w, shape, e)
            for threads in (1, 2):
                np.testing.assert_array_equal(convolve_codes(name, x, zero, w, shape, e, threads=threads), expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_shapes(data: st.DataObject) -> None:
    level, name = data.draw(st.sampled_from(CASES))
    pads = tuple(data.draw(st.integers(0, 3)) for _ in range(4))
    image = (data.draw(st.integers(1, 17)), data.draw(st.integers(1, 17)))
    assume(all(side + pads[i] + pads[i + 2] >= 3 for i, side in enumerate(image)))
    x_shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 70)), *image)
    shape, x, zero, w = problem(x_shape, data.draw(st.integers(1, 70)), pads, data.draw(st.sampled_from(["uint8", "int8"])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSMITH_ISA", level)
        e = IntegerEpilogue()
        np.testing.assert_array_equal(convolve_codes(name, x, zero, w, shape, e), plain.convolve(name, x, zero, w, shape, e))


@pytest.mark.parametrize("name", plain.SIDES)
def test_error_relative_to_the_largest_sum(name: str) -> None:
    """As stated, on codes of images after a ReLU and normal weights, and not far below."""
    worst = 0.0
    for channels, outputs, side in ((64, 32, 28), (256, 64, 14), (512, 32, 7)):
        generator = np.random.default_rng(channels)
        x = np.clip(np.rint(generator.normal(size=(1, side, side, channels)) * 60), 0, 255).astype(np.uint8)
        w = np.clip(np.rint(generator.normal(size=(outputs, channels, 3, 3)) * 40), -127, 127).astype(np.int8)
        shape = convolution_shape((1, channels, side, side), w.shape, {"pads": (1, 1, 1, 1)}, "uint8")
        exact = integers.convolve(x, 0, w, shape, IntegerEpilogue())
        worst = max(worst, float(np.abs(convolve_codes(name, x, 0, w, shape, IntegerEpilogue()) - exact).max() / np.abs(exact).max()))
    assert ALGORITHMS[name].accuracy / 4 < worst <= ALGORITHMS[name].accuracy, f"{worst:.2g}"


def test_nothing_to_round_is_nothing() -> None:
    """Codes that are all the zero point give the bias alone, whatever the scales of nothing."""
    shape, x, zero, w = problem((1, 9, 6, 6), 5, (1, 1, 1, 1), "uint8")
    for name in plain.SIDES:
        assert np.all(convolve_codes(name, np.full_like(x, zero), zero, w, shape, IntegerEpilogue()) == 0)
        assert np.all(convolve_codes(name, x, zero, np.zeros_like(w), shape, IntegerEpilogue()) == 0)


def test_chosen_only_where_its_error_is_allowed() -> None:
    shape, level = convolution_shape((1, 64, 14, 14), (64, 64, 3, 3), {"pads": (1, 1, 1, 1)}, "uint8"), instruction_sets()[-1]
    assert not set(plain.SIDES) & set(candidates(shape, level, None)) and not set(plain.SIDES) & set(candidates(shape, level, 1e-3))
    assert set(plain.SIDES) <= set(candidates(shape, level, 1e-1))

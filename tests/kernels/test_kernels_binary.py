"""Packed signs at every instruction set against sums of unpacked integers by NumPy and torch, bit for bit."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.kernels import binary, convolution_shape, instruction_sets
from convsmith.kernels import binary_convolution as convolution
from convsmith.kernels.geometry import ConvolutionShape

Array = np.ndarray[Any, Any]

LEVELS = instruction_sets()
CHANNELS = [1, 7, 8, 63, 64, 65, 130]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CONVSMITH_ISA", request.param)
    return str(request.param)


def numbers(shape: tuple[int, ...], seed: int, *, zeros: bool = False) -> Array:
    """Return normal numbers, with a third of them zero (of both signs) where asked."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    return np.where(rng.random(shape) < 1 / 3, np.float32(0) * x, x) if zeros else x


def sign(x: Array) -> Array:
    return np.where(x < 0, -1, 1).astype(np.int64)


def test_the_instruction_set_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVSMITH_ISA", raising=False)
    assert binary.binary_level() == LEVELS[-1]
    monkeypatch.setenv("CONVSMITH_ISA", "portable")
    assert binary.binary_level() == "portable"
    monkeypatch.setenv("CONVSMITH_ISA", "sse9")
    with pytest.raises(UnsupportedError, match="No instruction set 'sse9' here"):
        binary.pack_signs(numbers((2, 3), 1))
    monkeypatch.setitem(sys.modules, "convsmith._native", None)
    with pytest.raises(UnsupportedError, match="packed signs need the native module"):
        binary.binary_level()


@pytest.mark.parametrize("channels", CHANNELS)
def test_signs_are_packed_and_unpacked(level: str, channels: int) -> None:
    x = numbers((3, 5, channels), channels, zeros=True)
    packed = binary.pack_signs(x)
    assert packed.words.shape == (3, 5, -(-channels // 64)) and packed.shape == x.shape
    assert np.array_equal(binary.unpack(packed), sign(x))
    bits = np.unpackbits(packed.words.view(np.uint8), bitorder="little").reshape(3, 5, -1)
    assert not bits[..., channels:].any()  # what follows the last sign is clear
    assert np.array_equal(binary.unpack(binary.pack_ternary(x)), np.sign(x))


def test_both_zeros_are_plus_one_and_infinities_have_signs(level: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    assert binary.unpack(binary.pack_signs(x)).tolist() == [1, 1, 1, -1, 1, -1]


@pytest.mark.parametrize("place", [0, 15, 16, 63, 64, 99])
def test_a_nan_has_no_sign(level: str, place: int) -> None:
    x = numbers((2, 100), 1)
    x[1, place] = np.nan
    with pytest.raises(DataError, match=r"1 of 200 numbers are NaN and have no sign"):
        binary.pack_signs(x)


@pytest.mark.parametrize("kind", binary.PLANES)
@pytest.mark.parametrize(("rows", "columns", "channels"), [(1, 1, 1), (7, 33, 64), (5, 70, 65), (13, 31, 300), (200, 9, 8200), (0, 3, 5)])
def test_products_are_the_integer_sums(level: str, kind: str, rows: int, columns: int, channels: int) -> None:
    left, right = kind == "ternary", kind != "binary"
    if level == "reference" and rows * columns * channels > 100_000:
        rows, columns = min(rows, 3), min(columns, 3)
    a, b = numbers((rows, channels), 2, zeros=left), numbers((columns, channels), 3, zeros=right)
    packed = [binary.pack_ternary(v) if ternary else binary.pack_signs(v) for v, ternary in ((a, left), (b, right))]
    prepared = binary.prepare(packed[1], left_ternary=left)
    expected = (np.sign(a) if left else sign(a)).astype(np.int64) @ (np.sign(b) if right else sign(b)).astype(np.int64).T
    for threads in (1, 2, 3):
        out = np.full((rows, columns), -7, np.int32)
        assert binary.multiply_signs(packed[0], prepared, out=out, threads=threads) is out
        assert np.array_equal(out, expected)
    assert np.array_equal(binary.multiply_signs(packed[0], prepared), expected)


def reference(x: Array, w: Array, shape: ConvolutionShape, border: float) -> Array:
    """Return the sums by torch in float64, exact for these integers."""
    v = shape.windows
    pads = (v.before[1], v.after[1], v.before[0], v.after[0])
    images = torch.nn.functional.pad(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float64), pads, value=border)
    y = torch.nn.functional.conv2d(images, torch.tensor(w, dtype=torch.float64), None, v.strides, 0, v.dilations, shape.groups)
    return np.asarray(y.numpy().transpose(0, 2, 3, 1))


def check(x_shape: tuple[int, ...], w_shape: tuple[int, ...], kind: str, border: str, **attributes: Any) -> None:
    """Compare the sums of one convolution, and what is made of them, with torch's."""
    left, right = kind == "ternary", kind != "binary"
    n, c, h, w = x_shape
    shape = convolution_shape(x_shape, w_shape, attributes)
    x, weights = numbers((n, h, w, c), 4, zeros=left), numbers(w_shape, 5, zeros=right)
    prepared = convolution.prepare_convolution(weights, shape, ternary=right, left_ternary=left, border=border)
    packed = convolution.pack_groups(x, shape.groups, ternary=left)
    expected = reference(np.sign(x) if left else sign(x), np.sign(weights) if right else sign(weights), shape, float(border == "one"))
    sums = convolution.convolve_signs(packed, prepared, shape, threads=2)
    assert isinstance(sums, np.ndarray) and sums.dtype == np.int32
    assert np.array_equal(sums, expected), f"{x_shape} {w_shape} {attributes}"
    k = w_shape[0]
    if shape.groups > 1 and k // shape.groups % 8:
        return
    rng = np.random.default_rng(6)
    direction, threshold = rng.choice([-1, 1], k).astype(np.int32), rng.integers(-9, 10, k).astype(np.int32)
    signs = convolution.convolve_signs(packed, prepared, shape, thresholds=binary.Thresholds(direction, threshold), threads=2)
    assert isinstance(signs, binary.Signs)
    assert np.array_equal(binary.unpack(signs), np.where(direction * expected < threshold, -1, 1))
    assert np.array_equal(signs.words, binary.pack_signs(binary.unpack(signs).astype(np.float32)).words)  # clear bits at the end


@pytest.mark.parametrize("border", convolution.BORDERS)
@pytest.mark.parametrize("kind", binary.PLANES)
def test_every_geometry(level: str, kind: str, border: str) -> None:
    for number, (kernel, strides, dilations, pads) in enumerate([
        ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), ((5, 3), (2, 1), (1, 2), (2, 0, 3, 1)),
        ((3, 3), (2, 2), (2, 2), (0, 1, 2, 2)), ((1, 7), (1, 3), (1, 1), (3, 3, 3, 3)),
    ]):  # fmt: skip
        for channels, outputs, groups in ((1, 3, 1), (65, 40, 1), (128, 64, 1), (6, 16, 2), (12, 6, 3)):
            if level == "reference" and channels > 100:
                continue
            check(
                (1 + number % 2, channels, 9, 8), (outputs, channels // groups, *kernel), kind, border,
                strides=strides, dilations=dilations, pads=pads, group=groups,
            )  # fmt: skip


KINDS = st.sampled_from(binary.PLANES)
SMALL = st.integers(1, 11)
TAPS = st.integers(1, 4)
BORDERS = st.sampled_from(convolution.BORDERS)
PADDINGS = st.lists(st.integers(0, 4), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.integers(1, 130), st.integers(1, 70), SMALL, SMALL, TAPS, TAPS, KINDS, BORDERS, PADDINGS)
def test_odd_sizes(
    n: int, c: int, k: int, h: int, w: int, r: int, s: int, kind: str, border: str, pads: list[int]
) -> None:  # fmt: skip
    if h + pads[0] + pads[2] >= r and w + pads[1] + pads[3] >= s:
        check((n, c, h, w), (k, c, r, s), kind, border, pads=pads)


def test_scaled_sums_are_the_float_arithmetic(level: str) -> None:
    shape = convolution_shape((2, 20, 6, 6), (9, 20, 3, 3), {"pads": (1, 1, 1, 1)})
    x, w, scale, shift = numbers((2, 6, 6, 20), 7), numbers((9, 20, 3, 3), 8), numbers((9,), 9), numbers((9,), 10)
    y = convolution.convolve_signs(
        convolution.pack_groups(x), convolution.prepare_convolution(w, shape), shape, affine_k=(scale, shift), threads=2
    )
    sums = reference(sign(x), sign(w), shape, 0.0).astype(np.float32)
    assert np.array_equal(y, scale * sums + shift)


def test_thresholds_are_the_sign_of_batch_norm_for_every_sum() -> None:
    """Positive, negative, zero and tiny gammas; ties on the threshold; sums beyond it on both sides."""
    gamma = np.array([1.5, -0.7, 0.0, 0.0, 1e-20, 1.0, -1.0, 3.0], np.float32)
    beta = np.array([0.3, 0.2, 0.5, -0.5, 0.0, 0.0, 0.0, 1e9], np.float32)
    mean, variance = np.linspace(-40, 40, 8, dtype=np.float32), np.linspace(0.1, 9, 8, dtype=np.float32)
    mean[5:7] = 3.0  # the sum 3 is exactly zero: +1

    def normalise(sums: Array) -> Array:
        return np.asarray((sums - mean) / np.sqrt(variance + np.float32(1e-5)) * gamma + beta)

    most = 300
    thresholds = convolution.fold_thresholds(normalise, most, 8)
    sums = np.arange(-most, most + 1)[:, None] * np.ones(8, np.int64)
    assert np.array_equal(thresholds.direction_k * sums < thresholds.threshold_k, normalise(sums.astype(np.float32)) < 0)


def test_what_cannot_be_is_named() -> None:
    x = numbers((4, 70), 1)
    right = binary.prepare(binary.pack_signs(x))
    with pytest.raises(UsageError, match=r"float32 with at least one channel .* given float64 \(2,\)"):
        binary.pack_signs(np.zeros(2))
    with pytest.raises(UsageError, match=r"left signs are \(4, 69\), must be \[rows, 70\]"):
        binary.multiply_signs(binary.pack_signs(x[:, :69].copy()), right)
    with pytest.raises(UsageError, match=r"out is float32 \(4, 4\), must be contiguous int32 \(4, 4\)"):
        binary.multiply_signs(binary.pack_signs(x), right, out=np.zeros((4, 4), np.float32))
    with pytest.raises(UsageError, match="left signs are ternary, the right operand was prepared for the other kind"):
        binary.multiply_signs(binary.pack_ternary(x), right)
    with pytest.raises(UnsupportedError, match="ternary by binary"):
        binary.prepare(binary.pack_signs(x), left_ternary=True)
    shape = convolution_shape((1, 4, 5, 5), (3, 4, 3, 3), {})
    with pytest.raises(UsageError, match="border is 'mirror', must be one of zero, one"):
        convolution.prepare_convolution(numbers((3, 4, 3, 3), 1), shape, border="mirror")
    weights = convolution.prepare_convolution(numbers((3, 4, 3, 3), 1), shape)
    with pytest.raises(UsageError, match=r"words of shape \(1, 5, 5, 2\), this convolution needs \(1, 5, 5, 1\)"):
        convolution.convolve_signs(convolution.pack_groups(numbers((1, 5, 5, 70), 1)), weights, shape)
    with pytest.raises(UsageError, match=r"affine_k holds values of shape \(2,\), must be \(3,\)"):
        convolution.convolve_signs(convolution.pack_groups(numbers((1, 5, 5, 4), 1)), weights, shape, affine_k=(np.zeros(2), np.zeros(2)))

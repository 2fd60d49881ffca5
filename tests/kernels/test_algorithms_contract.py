"""One contract for every native convolution algorithm at every instruction set, against float64.

Output and scratch memory are NaN, between guards; sizes are odd, arrays begin anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from convolution_contract import PADS, Guarded, odd_shape
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith.errors import UnsupportedError, UsageError
from convsmith.kernels import ALGORITHMS, ConvolutionShape, Epilogue, convolution_shape, instruction_sets, native
from convsmith.kernels.algorithms import summation_bound

Array = np.ndarray[Any, Any]

CASES = [(level, name) for level in instruction_sets() for name in native.names(level)]
GUARD = np.float32(12345.678)
NAN = 0xFF  # the byte of which four make a NaN


def sizes(x: tuple[int, ...], w: tuple[int, ...], **attributes: Any) -> ConvolutionShape:
    return convolution_shape(x, w, attributes)


def numbers(shape: tuple[int, ...], seed: int, offset: int = 0) -> Array:
    """Return normal float32 numbers ``offset`` floats into an allocation that ends with them."""
    array = np.empty(int(np.prod(shape)) + offset, np.float32)[offset:].reshape(shape)
    array[...] = np.random.default_rng(seed).normal(size=shape)
    return array


def exact(x_nhwc: Array, w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return the sums in float64 by torch, which shares no code with the kernels."""
    v = shape.windows
    x = torch.tensor(np.ascontiguousarray(x_nhwc.transpose(0, 3, 1, 2)), dtype=torch.float64)
    x = torch.nn.functional.pad(x, (v.before[1], v.after[1], v.before[0], v.after[0]))
    y = torch.nn.functional.conv2d(x, torch.tensor(w_kcrs, dtype=torch.float64), None, v.strides, 0, v.dilations, shape.groups)
    return np.asarray(y.numpy()).transpose(0, 2, 3, 1)


def convolve(
    level: str,
    name: str,
    x: Array,
    w: Array,
    shape: ConvolutionShape,
    epilogue: Epilogue | None = None,
    *,
    offset: int = 0,
    threads: int = 2,
) -> Array:
    """Run with NaN in the output and in the scratch memory, between guards."""
    batch, channels, *output = shape.output
    y = Guarded((batch, *output, channels), np.float32, NAN, 16 + 4 * offset)
    scratch = Guarded((-(-native.workspace_bytes(name, shape, threads) // 4),), np.float32, NAN)
    prepared = native.prepare(name, w, shape, level)
    native.run_nhwc(name, x, prepared, shape, epilogue, out_nhwk=y.array, workspace=scratch.array, threads=threads)
    y.check()
    scratch.check()
    return y.array


def bound(name: str, x: Array, w: Array, shape: ConvolutionShape) -> Array:
    """Return how far each output may be from the exact sum."""
    size = exact(np.abs(x), np.abs(w), shape)
    return np.asarray(ALGORITHMS[name].error_bound(shape) * (size if ALGORITHMS[name].pointwise else np.max(size) + 0 * size)) + 1e-37


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    level, name = request.param
    monkeypatch.setenv("CONVSMITH_ISA", level)
    return level, name


def check(level: str, name: str, x: tuple[int, ...], w: tuple[int, ...], offset: int = 0, **attributes: Any) -> bool:
    """Compare one convolution of normal numbers with float64; tell whether the algorithm takes it."""
    shape = sizes(x, w, **attributes)
    if not native.supports(name, shape):
        return False
    n, c, *image = x
    x_nhwc, w_kcrs = numbers((n, *image, c), 1, offset), numbers(w, 2)
    y = convolve(level, name, x_nhwc, w_kcrs, shape, offset=offset)
    error, most = np.abs(y - exact(x_nhwc, w_kcrs, shape)), bound(name, x_nhwc, w_kcrs, shape)
    assert np.all(error <= most), f"{x} {w} {attributes}: {np.max(error / most):.3g} times the bound"
    return True


KERNELS = [(1, 1), (3, 3), (2, 3), (5, 5), (1, 7), (7, 1), (1, 3), (3, 1), (1, 5), (5, 1), (7, 7), (6, 7)]
STEPS = [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 3), (1, 1)), ((1, 1), (2, 1)), ((2, 1), (2, 3))]


def test_every_geometry(case: tuple[str, str]) -> None:
    """Drive kernels x strides x dilations x paddings x groups x channels, each combination at odd sizes."""
    taken = 0
    for number, (kernel, (strides, dilations), pads) in enumerate(itertools.product(KERNELS, STEPS, PADS)):
        groups, c, k = [(1, 3, 5), (1, 16, 33), (2, 10, 12), (1, 37, 16), (13, 13, 13), (20, 20, 20)][number % 6]
        image = (19 + number % 7, 20 + number % 5)
        for channels, outputs, parts in ((c, k, groups), (17, 34, 1), (19, 19, 19)):
            given = {"strides": strides, "dilations": dilations, "pads": pads, "group": parts}
            taken += check(*case, (1 + number % 2, channels, *image), (outputs, channels // parts, *kernel), number % 16, **given)
    assert taken >= 4


@pytest.mark.parametrize("width", [1, 2, 5])
def test_images_smaller_than_the_kernel(case: tuple[str, str], width: int) -> None:
    for kernel, groups in itertools.product([(3, 3), (5, 5), (1, 3), (3, 1)], (1, 7)):
        check(*case, (2, 7, width, 1), (7, 7 // groups, *kernel), pads=(2, 2, 2, 2), group=groups)


def test_channel_counts_around_every_vector(case: tuple[str, str]) -> None:
    for channels in (1, 2, 4, 7, 8, 15, 16, 17, 31, 32, 48, 63, 64, 65, 97):
        check(*case, (1, channels, 7, 9), (channels + 3, channels, 3, 3), pads=(1, 1, 1, 1))
        check(*case, (1, channels, 7, 9), (channels, 1, 3, 3), pads=(1, 1, 1, 1), group=channels)


@pytest.mark.parametrize("kernel", [(7, 7), (9, 9), (11, 11), (6, 13), (12, 6), (15, 24)])
def test_large_kernels(case: tuple[str, str], kernel: tuple[int, int]) -> None:
    for channels, outputs, image in ((3, 5, (13, 17)), (16, 33, (14, 12)), (21, 18, (19, 15)), (2, 3, (37, 50))):
        check(*case, (2, channels, *image), (outputs, channels, *kernel), pads=(kernel[0] // 2, kernel[1] // 2) * 2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_shapes(data: st.DataObject) -> None:
    level, name = data.draw(st.sampled_from(CASES))
    x, w, attributes = odd_shape(data, KERNELS, 23)
    if not native.supports(name, sizes((1, *x[1:]), w, group=attributes["group"], pads=(8, 8, 8, 8))):
        attributes["strides"] = attributes["dilations"] = (1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSMITH_ISA", level)
        check(level, name, x, w, data.draw(st.integers(0, 15)), **attributes)


def sample(name: str) -> tuple[ConvolutionShape, Array, Array]:
    """Return a small convolution that the algorithm takes, with its arrays."""
    for kernel, groups in itertools.product([(3, 3), (5, 5), (1, 3), (3, 1), (1, 5), (5, 1), (6, 7)], (1, 21)):
        shape = sizes((2, 21, 11, 10), (21, 21 // groups, *kernel), pads=(1, 2, 1, 2), group=groups)
        if native.supports(name, shape):
            return shape, numbers((2, 11, 10, 21), 3), numbers((21, 21 // groups, *kernel), 4)
    raise AssertionError(f"{name} takes no sample")


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "clip": lambda v: np.clip(v, -0.5, 2.0),
    "silu": lambda v: v / (1 + np.exp(-v)),
    "hard_swish": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
    "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}


def test_the_activations_are_all_tested() -> None:
    assert tuple(ACTIVATIONS) == native.ACTIVATIONS


@pytest.mark.parametrize("activation", native.ACTIVATIONS)
def test_fusions(case: tuple[str, str], activation: str) -> None:
    """Bias, residual and activation follow the sum; activations are 1.1-Lipschitz, and within 1e-6 of themselves."""
    shape, x, w = sample(case[1])
    bias, residual = numbers((21,), 5), numbers((shape.batch, *shape.windows.output, 21), 6)
    for with_bias, with_residual in itertools.product((False, True), repeat=2):
        e = Epilogue(bias if with_bias else None, residual if with_residual else None, activation, -0.5, 2.0)
        y = convolve(*case, x, w, shape, e)
        total = exact(x, w, shape) + with_bias * bias.astype(np.float64) + with_residual * residual.astype(np.float64)
        most = 1.1 * bound(case[1], x, w, shape) + 1e-6 * np.maximum(np.abs(total), 1)
        assert np.all(np.abs(y - ACTIVATIONS[activation](total)) <= most)


def test_activations_of_extreme_sums(case: tuple[str, str]) -> None:
    """Huge sums saturate without overflow, NaN stays NaN."""
    shape, x, w = sample(case[1])
    bias = np.zeros(21, np.float32)
    bias[:6] = 1e4, -1e4, np.nan, 100, -100, -60
    for activation in native.ACTIVATIONS:
        y = convolve(*case, 0 * x, w, shape, Epilogue(bias, None, activation, -0.5, 2.0))
        with np.errstate(over="ignore"):
            expected = np.broadcast_to(ACTIVATIONS[activation](bias.astype(np.float64)), y.shape)
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-33, equal_nan=True)  # sums below -87 count as -87


def test_the_residual_may_be_the_output(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    y = numbers((shape.batch, *shape.windows.output, 21), 7)
    before = y.astype(np.float64)
    native.run_nhwc(case[1], x, native.prepare(case[1], w, shape), shape, Epilogue(residual_nhwc=y), out_nhwk=y)
    assert np.all(np.abs(y - before - exact(x, w, shape)) <= bound(case[1], x, w, shape) + 1e-6 * np.abs(before) + 1e-6)


def test_slices_of_wider_tensors(case: tuple[str, str]) -> None:
    """Input, output and residual may be some channels of wider tensors; the others stay as they were."""
    shape, x, w = sample(case[1])
    whole = convolve(*case, x, w, shape)
    wide_x, wide_y = np.full((*x.shape[:3], 40), np.nan, np.float32), np.full((*whole.shape[:3], 50), GUARD, np.float32)
    wide_x[..., 5:26] = x
    native.run_nhwc(case[1], wide_x[..., 5:26], native.prepare(case[1], w, shape), shape, out_nhwk=wide_y[..., 7:28])
    np.testing.assert_array_equal(wide_y[..., 7:28], whole)
    assert np.all(wide_y[..., :7] == GUARD) and np.all(wide_y[..., 28:] == GUARD)
    residual = np.zeros_like(wide_y)
    residual[..., 3:24] = 1
    y = native.run_nhwc(case[1], x, native.prepare(case[1], w, shape), shape, Epilogue(residual_nhwc=residual[..., 3:24]))
    np.testing.assert_allclose(y, whole + 1, rtol=1e-6, atol=1e-6)  # the loops add in float64


def test_the_number_of_threads_changes_nothing(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    one = convolve(*case, x, w, shape, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(convolve(*case, x, w, shape, threads=threads), one)


def test_several_python_threads_at_once(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    expected, prepared = convolve(*case, x, w, shape), native.prepare(case[1], w, shape)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: native.run_nhwc(case[1], x, prepared, shape, threads=2), range(24)))
    assert all(np.array_equal(y, expected) for y in results)


@pytest.mark.parametrize(("name", "groups"), [("gemm", 1), ("strassen", 1), ("depthwise", 32), ("winograd_6x6_3x3", 1)])
def test_results_larger_than_the_caches(name: str, groups: int) -> None:
    """28 MB are stored past the caches where vectors are whole lines; the same bits, and no others, as where they are not."""
    kernel = (1, 1) if name == "gemm" else (3, 3)
    shape = sizes((1, 32, 470, 471), (32, 32 // groups, *kernel), pads=(kernel[0] // 2,) * 4, group=groups)
    x, w, bias = numbers((1, 470, 471, 32), 8), numbers((32, 32 // groups, *kernel), 9), numbers((32,), 10)
    e, level = Epilogue(bias, None, "clip", -1.0, 1.0), instruction_sets()[-1]
    found = []
    for start in (64, 68):
        y, prepared = Guarded((1, 470, 471, 32), np.float32, NAN, start), native.prepare(name, w, shape, level)
        native.run_nhwc(name, x, prepared, shape, e, out_nhwk=y.array, threads=2)
        y.check()
        found.append(y.array)
    np.testing.assert_array_equal(*found)
    assert not np.isnan(found[0]).any()


def test_nchw_is_converted(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    algorithm = ALGORITHMS[case[1]]
    y = algorithm.run(x.transpose(0, 3, 1, 2), algorithm.prepare(w, shape), shape)
    np.testing.assert_array_equal(y, convolve(*case, x, w, shape).transpose(0, 3, 1, 2))


def test_what_is_not_taken() -> None:
    shape = sizes((1, 4, 5, 5), (6, 2, 3, 3), group=2)
    assert not native.supports("depthwise", shape)
    assert not native.supports("gemm", convolution_shape((1, 4, 5, 5), (6, 4, 3, 3), {}, "float64"))
    with pytest.raises(UnsupportedError, match="algorithm 'depthwise' does not support this convolution"):
        native.run_nchw("depthwise", np.zeros((1, 4, 5, 5), np.float32), native.prepare("gemm", np.zeros((6, 2, 3, 3)), shape), shape)


def test_bad_arrays_are_named() -> None:
    shape = sizes((1, 4, 5, 5), (6, 4, 3, 3))
    x, prepared = np.zeros((1, 5, 5, 4), np.float32), native.prepare("gemm", np.zeros((6, 4, 3, 3), np.float32), shape)
    with pytest.raises(UsageError, match=r"x_nhwc is float64 \(1, 5, 5, 4\), must be float32 \(1, 5, 5, 4\)"):
        native.run_nhwc("gemm", x.astype(np.float64), prepared, shape)
    with pytest.raises(UsageError, match=r"out_nhwk is float32 \(1, 3, 3, 5\), must be float32 \(1, 3, 3, 6\)"):
        native.run_nhwc("gemm", x, prepared, shape, out_nhwk=np.zeros((1, 3, 3, 5), np.float32))
    with pytest.raises(UsageError, match="only its channels may be a slice of a wider NHWC tensor"):
        native.run_nhwc("gemm", np.zeros((1, 5, 10, 4), np.float32)[:, :, ::2][:, ::-1], prepared, shape)
    with pytest.raises(UsageError, match="no activation 'rely'; there are none, relu"):
        native.run_nhwc("gemm", x, prepared, shape, Epilogue(activation="rely"))
    with pytest.raises(UsageError, match=r"bias has shape \(5,\), must be \(6,\)"):
        native.run_nhwc("gemm", x, prepared, shape, Epilogue(bias=np.zeros(5)))


def test_the_bound_follows_from_the_number_of_products() -> None:
    shape = sizes((1, 4, 5, 5), (6, 4, 3, 3))
    assert ALGORITHMS["gemm"].error_bound(shape) == summation_bound(shape) == pytest.approx(36 * 2**-24, rel=1e-5)

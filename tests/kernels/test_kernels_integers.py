"""One contract for every convolution of codes at every instruction set: bit for bit the plain integer interpretation.

That interpretation is tested against ONNX Runtime. The output is filled with garbage between guards, scratch memory too; sizes are odd,
arrays begin anywhere.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from convolution_contract import PADS, convolve_codes, odd_shape
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from convsmith.errors import UnsupportedError, UsageError
from convsmith.kernels import ALGORITHMS, ConvolutionShape, IntegerEpilogue, convolution_shape, instruction_sets, integer_native, integers
from convsmith.kernels.integers import Middle

Array = np.ndarray[Any, Any]

CASES = [(level, name) for level in instruction_sets() for name in integer_native.names(level) if ALGORITHMS[name].accuracy == 0]
GUARD = 0xA5


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    level, name = request.param
    monkeypatch.setenv("CONVSMITH_ISA", level)
    return level, name


def any_codes(shape: tuple[int, ...], seed: int, dtype: Any = np.uint8, offset: int = 0) -> Array:
    """Return every code alike, ``offset`` bytes into an allocation that ends with them."""
    limits = np.iinfo(dtype)
    array = np.empty(int(np.prod(shape)) + offset, dtype)[offset:].reshape(shape)
    array[...] = np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape)
    return array


def check(name: str, x: tuple[int, ...], w: tuple[int, ...], seed: int, dtype: str = "uint8", offset: int = 0, **attributes: Any) -> bool:
    """Compare sums and codes of one convolution with the plain interpretation; tell whether the algorithm takes it."""
    shape = convolution_shape(x, w, attributes, dtype)
    if not integer_native.supports(name, shape):
        return False
    x_nhwc, zero, w_kcrs, sums = problem(shape, w, seed, offset)
    for e in (IntegerEpilogue(), scaled(shape, seed)):
        y = convolve_codes(name, x_nhwc, zero, w_kcrs, shape, e, offset=offset // 4 * 4)
        np.testing.assert_array_equal(y, integers.finish(sums, e), err_msg=f"{x} {w} {attributes}")
    return True


@cache
def problem(shape: ConvolutionShape, w: tuple[int, ...], seed: int, offset: int) -> tuple[Array, int, Array, Array]:
    """Return image, zero point, weights and exact sums, which all levels share."""
    x_nhwc = any_codes((shape.batch, *shape.size, shape.in_channels), seed, shape.dtype, offset)
    zero, w_kcrs = int(any_codes((1,), seed + 2, shape.dtype)[0]), any_codes(w, seed + 1, np.int8)
    return x_nhwc, zero, w_kcrs, integers.convolve(x_nhwc, zero, w_kcrs, shape, IntegerEpilogue())


def scaled(shape: ConvolutionShape, seed: int, **more: Any) -> IntegerEpilogue:
    """Return an epilogue whose codes spread over their range, and reach both its ends."""
    generator = np.random.default_rng(seed)
    spread = 128 * 74 * shape.products**0.5
    bias = generator.integers(-int(spread), int(spread), shape.out_channels).astype(np.int32)
    factor = (generator.uniform(30, 90, shape.out_channels) / spread).astype(np.float32)
    return IntegerEpilogue("codes", bias, factor, **{"zero": 117, "low": 3, "high": 251, **more})


KERNELS = [(1, 1), (3, 3), (2, 3), (5, 5), (1, 7), (7, 7)]
STEPS = [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 3), (1, 1)), ((2, 1), (2, 3))]


def test_every_geometry(case: tuple[str, str]) -> None:
    """Drive kernels x strides x dilations x paddings x groups x channels x signs, each combination at odd sizes."""
    taken = 0
    for number, (kernel, (strides, dilations), pads) in enumerate(itertools.product(KERNELS, STEPS, PADS)):
        groups, c, k = [(1, 3, 5), (1, 16, 33), (2, 10, 12), (1, 64, 16), (13, 13, 13), (20, 20, 20)][number % 6]
        image = (13 + number % 3, 19 + number % 4)
        for channels, outputs, parts in ((c, k, groups), (17, 34, 1), (19, 19, 19)):
            given = {"strides": strides, "dilations": dilations, "pads": pads, "group": parts}
            x, w = (1 + number % 2, channels, *image), (outputs, channels // parts, *kernel)
            taken += check(case[1], x, w, number, ("uint8", "int8")[number % 2], number % 16, **given)
    assert taken >= 4


def test_channel_counts_around_every_vector(case: tuple[str, str]) -> None:
    for channels in (1, 2, 4, 7, 8, 15, 16, 17, 31, 32, 48, 63, 64, 65, 97, 128):
        check(case[1], (1, channels, 5, 7), (channels + 3, channels, 3, 3), channels, pads=(1, 1, 1, 1))
        check(case[1], (1, channels, 5, 7), (channels, 1, 3, 3), channels, "int8", pads=(1, 1, 1, 1), group=channels)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_shapes(data: st.DataObject) -> None:
    level, name = data.draw(st.sampled_from(CASES))
    x, w, attributes = odd_shape(data, KERNELS, 17)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSMITH_ISA", level)
        dtype, offset = data.draw(st.sampled_from(["uint8", "int8"])), data.draw(st.integers(0, 15))
        check(name, x, w, data.draw(st.integers(0, 99)), dtype, offset, **attributes)


def sample(name: str) -> tuple[ConvolutionShape, Array, Array]:
    """Return a small convolution that the algorithm takes, with its arrays."""
    for groups in (1, 21):
        shape = convolution_shape((2, 21, 11, 10), (21, 21 // groups, 3, 3), {"pads": (1, 2, 1, 2), "group": groups}, "uint8")
        if integer_native.supports(name, shape):
            return shape, any_codes((2, 11, 10, 21), 3), any_codes((21, 21 // groups, 3, 3), 4, np.int8)
    raise AssertionError(f"{name} takes no sample")


def test_the_largest_sums_do_not_overflow(case: tuple[str, str]) -> None:
    """Every product 255 * -128 or 255 * 127: 16-bit sums of two would saturate, 32-bit ones of 9 * 64 are exact."""
    for weight, zero in itertools.product((-128, 127), (0, 255)):
        for groups in (1, 64):
            shape = convolution_shape((1, 64, 5, 5), (64, 64 // groups, 3, 3), {"pads": (1, 1, 1, 1), "group": groups}, "uint8")
            if integer_native.supports(case[1], shape):
                x, w = np.full((1, 5, 5, 64), 255 - zero, np.uint8), np.full((64, 64 // groups, 3, 3), weight, np.int8)
                np.testing.assert_array_equal(
                    convolve_codes(case[1], x, zero, w, shape), integers.convolve(x, zero, w, shape, IntegerEpilogue())
                )


def test_fusions(case: tuple[str, str]) -> None:
    """Bias, factors, limits and a residual, with and without a rounding before it, as numbers and as codes."""
    shape, x, w = sample(case[1])
    residual = any_codes((shape.batch, *shape.windows.output, 21), 6)
    plain = scaled(shape, 7)
    more = {"residual_nhwc": residual, "residual_zero": 131, "residual_factor": 0.37}
    for e in (
        IntegerEpilogue("numbers", plain.bias, plain.factor),
        IntegerEpilogue("codes", None, plain.factor),
        scaled(shape, 8, zero=0, low=0, high=255),
        scaled(shape, 9, zero=128, low=128, high=255),
        scaled(shape, 10, **more),
        scaled(shape, 11, **more, middle=Middle(0.6, -128, 127)),
        scaled(shape, 12, **more, middle=Middle(1.3, 0, 255), zero=0, low=0),
    ):
        for threads in (1, 2, 5):
            np.testing.assert_array_equal(
                convolve_codes(case[1], x, 99, w, shape, e, threads=threads), integers.convolve(x, 99, w, shape, e), err_msg=str(e)
            )


def test_the_residual_may_be_the_output(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    y = any_codes((shape.batch, *shape.windows.output, 21), 7)
    e = scaled(shape, 5, residual_nhwc=y, residual_zero=3, residual_factor=0.5)
    expected = integers.convolve(x, 9, w, shape, e)
    integer_native.run_nhwc(case[1], x, integer_native.prepare(case[1], w, shape), shape, e, zero=9, out_nhwk=y)
    np.testing.assert_array_equal(y, expected)


def test_slices_of_wider_tensors(case: tuple[str, str]) -> None:
    """Input, output and residual may be some channels of wider tensors; the others stay as they were."""
    shape, x, w = sample(case[1])
    wide_x, wide_y = np.full((*x.shape[:3], 40), 77, np.uint8), np.full((shape.batch, *shape.windows.output, 50), GUARD, np.uint8)
    residual = any_codes(wide_y.shape, 1)
    wide_x[..., 5:26] = x
    e = scaled(shape, 5, residual_nhwc=residual[..., 3:24], residual_zero=3, residual_factor=0.5)
    prepared = integer_native.prepare(case[1], w, shape)
    integer_native.run_nhwc(case[1], wide_x[..., 5:26], prepared, shape, e, out_nhwk=wide_y[..., 7:28])
    np.testing.assert_array_equal(wide_y[..., 7:28], integers.convolve(x, 0, w, shape, e))
    assert np.all(wide_y[..., :7] == GUARD) and np.all(wide_y[..., 28:] == GUARD)


def test_several_python_threads_at_once(case: tuple[str, str]) -> None:
    shape, x, w = sample(case[1])
    expected, prepared = convolve_codes(case[1], x, 0, w, shape), integer_native.prepare(case[1], w, shape)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: integer_native.run_nhwc(case[1], x, prepared, shape, threads=2), range(24)))
    assert all(np.array_equal(y, expected) for y in results)


def onnx_session(op: str, inputs: dict[str, Array], output: int, **attributes: Any) -> Array:
    """Return what ONNX Runtime makes of one operator."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in inputs.items()
    ]
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info("y", output, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("groups", "pads", "strides", "dilations"), [(1, 1, 1, 1), (3, 2, 2, 1), (12, 0, 1, 2)])
def test_the_plain_interpretation_equals_onnx_runtime(dtype: str, groups: int, pads: int, strides: int, dilations: int) -> None:
    """ConvInteger gives the same sums; QLinearConv the same codes."""
    given = {"pads": (pads,) * 4, "strides": (strides,) * 2, "dilations": (dilations,) * 2, "group": groups}
    shape = convolution_shape((2, 12, 13, 11), (24, 12 // groups, 3, 3), given, dtype)
    x, w = any_codes((2, 13, 11, 12), 1, dtype), any_codes((24, 12 // groups, 3, 3), 2, np.int8)
    zero = np.asarray(101 if dtype == "uint8" else -27, dtype)
    x_nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if dtype == "uint8":
        sums = onnx_session("ConvInteger", {"x": x_nchw, "w": w, "zero": zero}, TensorProto.INT32, **given)
        np.testing.assert_array_equal(sums.transpose(0, 2, 3, 1), integers.convolve(x, int(zero), w, shape, IntegerEpilogue()))
    generator = np.random.default_rng(3)
    x_scale, y_scale = np.float32(0.021), np.float32(0.05)
    w_scale = generator.uniform(0.001, 0.003, 24).astype(np.float32) * np.float32(8 / shape.products**0.5)
    bias = generator.integers(-90000, 90000, 24).astype(np.int32)
    inputs = {
        "x": x_nchw, "xs": x_scale, "xz": zero, "w": w, "ws": w_scale, "wz": np.zeros(24, np.int8), "ys": y_scale,
        "yz": np.asarray(88 if dtype == "uint8" else -40, dtype), "b": bias,
    }  # fmt: skip
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT8
    theirs = onnx_session("QLinearConv", {name: np.asarray(array) for name, array in inputs.items()}, kind, **given)
    e = IntegerEpilogue("codes", bias, x_scale * w_scale / y_scale, zero=88)
    ours = integers.convolve(x, int(zero), w, shape, e)
    assert ours.std() > 40
    np.testing.assert_array_equal(theirs.transpose(0, 2, 3, 1).astype(np.int16) + (0 if dtype == "uint8" else 128), ours)


def test_algorithms_take_nchw_and_return_sums() -> None:
    shape, x, w = sample("int8_gemm")
    algorithm = ALGORITHMS["int8_gemm"]
    y = algorithm.run(x.transpose(0, 3, 1, 2), algorithm.prepare(w, shape), shape)
    assert y.dtype == np.int32 and algorithm.error_bound(shape) == 0
    np.testing.assert_array_equal(y.transpose(0, 2, 3, 1), integers.convolve(x, 0, w, shape, IntegerEpilogue()))


def test_what_is_not_taken() -> None:
    shape = convolution_shape((1, 4, 5, 5), (6, 2, 3, 3), {"group": 2}, "uint8")
    assert not integer_native.supports("int8_depthwise", shape)
    assert not integer_native.supports("int8_gemm", convolution_shape((1, 4, 5, 5), (6, 4, 3, 3), {}))
    assert not integer_native.supports("int8_gemm", convolution_shape((1, 65794, 1, 1), (1, 65794, 1, 1), {}, "uint8"))
    with pytest.raises(UnsupportedError, match="algorithm 'int8_depthwise' does not support this convolution"):
        x, prepared = np.zeros((1, 4, 5, 5), np.uint8), integer_native.prepare("int8_gemm", np.zeros((6, 2, 3, 3), np.int8), shape)
        integer_native.run_nchw("int8_depthwise", x, prepared, shape)


def test_bad_arrays_are_named() -> None:
    shape = convolution_shape((1, 4, 5, 5), (6, 4, 3, 3), {}, "uint8")
    x, prepared = np.zeros((1, 5, 5, 4), np.uint8), integer_native.prepare("int8_gemm", np.zeros((6, 4, 3, 3), np.int8), shape)
    run = integer_native.run_nhwc
    with pytest.raises(UsageError, match="the weights are float32, must be int8: scale them by channel and round"):
        integer_native.prepare("int8_gemm", np.zeros((6, 4, 3, 3), np.float32), shape)
    with pytest.raises(UsageError, match=r"x_nhwc is int8 \(1, 5, 5, 4\), must be uint8 \(1, 5, 5, 4\)"):
        run("int8_gemm", x.view(np.int8), prepared, shape)
    with pytest.raises(UsageError, match="no result 'code'; there are sums, numbers, codes"):
        run("int8_gemm", x, prepared, shape, IntegerEpilogue("code"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="result 'codes' needs factor, a float32 number for each output channel"):
        run("int8_gemm", x, prepared, shape, IntegerEpilogue("codes"))
    with pytest.raises(UsageError, match=r"bias is int64 \(6,\), must be int32 \(6,\)"):
        run("int8_gemm", x, prepared, shape, IntegerEpilogue(bias=np.zeros(6, np.int64)))
    with pytest.raises(UsageError, match="zero is 256, which is no uint8"):
        run("int8_gemm", x, prepared, shape, zero=256)
    with pytest.raises(UsageError, match="zero 0, low 9, high 3 and residual_zero 0 must be codes, 0 to 255, in order"):
        run("int8_gemm", x, prepared, shape, IntegerEpilogue(low=9, high=3))

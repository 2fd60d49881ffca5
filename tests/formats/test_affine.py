"""Affine integers against ONNX's QuantizeLinear and DequantizeLinear, and the ways to find their ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convsmith import _native, formats
from convsmith.errors import UsageError
from convsmith.formats import Format

LEVELS = ["numpy", *_native.levels()]
TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16}


def by_onnx(x: NDArray[Any], name: str, scale: Any, zero_point: Any, axis: int = 1, group: int = 0) -> NDArray[np.float32]:
    """Quantize and dequantize in ONNX Runtime."""
    zeros = np.broadcast_to(np.asarray(zero_point), np.shape(scale))
    attributes = {"axis": axis, **({"block_size": group} if group else {})}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
            ],
            "qdq",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
            [
                helper.make_tensor("s", TensorProto.FLOAT, np.shape(scale), np.ravel(np.asarray(scale, np.float32)).tolist()),
                helper.make_tensor("z", TYPES[name], np.shape(scale), np.ravel(zeros).astype(int).tolist()),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return result


def rounded(level: str, x: NDArray[Any], fmt: Format, **options: Any) -> NDArray[Any]:
    return formats.round_numpy(x, fmt, **options) if level == "numpy" else formats.round_array(x, fmt, isa=level, **options)


X = (np.random.default_rng(0).normal(size=(6, 10, 33)) * 20).astype(np.float32)
INT8 = formats.parse("int8")
# Every float32 between whole codes that is a tie in some scale, and both ends.
TIES = np.concatenate([np.arange(-300, 300) * np.float32(0.5) * s for s in (np.float32(0.25), np.float32(0.3), np.float32(1.7))])
TIES = np.resize(TIES, (6, 10, 33)).astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("name", "zero_point"), [("int8", -7), ("int8", 127), ("uint8", 0), ("uint8", 131), ("int16", 300), ("uint16", 40000)]
)
def test_per_tensor_equals_onnx(name: str, zero_point: int, level: str) -> None:
    for x in (X, TIES):
        for scale in (0.25, 0.3, 1.7, 1e-3):
            got = rounded(level, x, formats.parse(name), scale=scale, zero_point=zero_point)
            np.testing.assert_array_equal(got, by_onnx(x, name, np.float32(scale), zero_point))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_channel_equals_onnx(axis: int, level: str) -> None:
    rng = np.random.default_rng(axis)
    scale = rng.uniform(0.05, 0.5, X.shape[axis]).astype(np.float32)
    zeros = rng.integers(0, 256, X.shape[axis])
    got = rounded(level, X, formats.parse("uint8"), scale=scale, zero_point=zeros, axis=axis)
    np.testing.assert_array_equal(got, by_onnx(X, "uint8", scale, zeros, axis))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("axis", "group"), [(2, 11), (2, 8), (1, 5), (1, 3), (0, 6), (2, 1)])
def test_per_group_equals_onnx(axis: int, group: int, level: str) -> None:
    shape = list(X.shape)
    shape[axis] = -(-shape[axis] // group)
    rng = np.random.default_rng(group)
    scale = rng.uniform(0.05, 0.5, shape).astype(np.float32)
    zeros = rng.integers(-100, 100, shape)
    got = rounded(level, X, formats.parse("int8"), scale=scale, zero_point=zeros, axis=axis, group=group)
    np.testing.assert_array_equal(got, by_onnx(X, "int8", scale, zeros, axis, group))


GRID = np.arange(-100, 156, dtype=np.float32) * np.float32(0.21)


@pytest.mark.parametrize("level", LEVELS)
def test_zero_is_exact_and_all_modes_stay_on_the_grid(level: str) -> None:
    x = np.append(X.reshape(-1), [0.0, -0.0, np.inf, -np.inf, np.nan]).astype(np.float32)
    for mode in formats.ROUNDINGS:
        y = rounded(level, x, formats.parse("uint8"), rounding=mode, scale=0.21, zero_point=100)
        assert y[-5] == y[-4] == 0 and y[-3] == GRID[-1] and y[-2] == GRID[0] and np.isnan(y[-1])
        assert np.isin(y[:-1], GRID).all()
        np.testing.assert_array_equal(y, formats.round_numpy(x, formats.parse("uint8"), mode, scale=0.21, zero_point=100))
        wide = rounded(level, x.astype(np.float64), formats.parse("uint8"), rounding=mode, scale=0.21, zero_point=100)
        assert np.isin(wide[:-1], GRID).all()


FITS = {"min_max": formats.fit_min_max, "percentile": formats.fit_percentile, "mse": formats.fit_mse}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
@pytest.mark.parametrize("text", ["int8", "uint8", "int4", "uint3", "int6:symmetric"])
def test_ranges_have_their_shape_and_an_exact_zero(text: str, fit: Any) -> None:
    fmt = formats.parse(text)
    x = X + 5
    for options, shape in (({}, ()), ({"axis": 1}, (10,)), ({"axis": -1, "group": 8}, (6, 10, 5)), ({"axis": 0, "group": 4}, (2, 10, 33))):
        for symmetric in (False, True):
            found = fit(x, fmt, symmetric=symmetric, **options)
            assert found.scale.shape == found.zero_point.shape == shape and found.scale.dtype == np.float32
            assert (found.zero_point >= formats.min_value(fmt)).all() and (found.zero_point <= formats.max_value(fmt)).all()
            if symmetric or fmt.symmetric:
                assert (found.zero_point == (0 if fmt.signed else 1 << (fmt.bits - 1))).all()
            y = formats.round_array(x, fmt, scale=found.scale, zero_point=found.zero_point, **options)
            assert y.shape == x.shape


def test_min_max_by_hand() -> None:
    found = formats.fit_min_max(np.array([-1.0, 0.5, 4.0]), formats.parse("uint8"))
    assert found.scale == np.float32(5 / 255) and found.zero_point == 51
    found = formats.fit_min_max(np.array([2.0, 4.0]), formats.parse("int4"))
    assert found.scale == np.float32(4 / 15) and found.zero_point == -8
    found = formats.fit_min_max(np.array([-2.0, 4.0]), formats.parse("int4"), symmetric=True)
    assert found.scale == np.float32(4 / 7) and found.zero_point == 0
    for x in (np.zeros(4), np.zeros(0), np.full(3, 1e-45)):
        assert formats.fit_min_max(x, formats.parse("int8")).scale == 1 and formats.fit_mse(x, formats.parse("int8")).scale == 1


def test_percentile_leaves_out_the_tails() -> None:
    x = np.append(np.linspace(-1, 1, 10_001), [100.0, -50.0])
    found = formats.fit_percentile(x, formats.parse("uint8"), 99.9)
    low, high = np.percentile(x, [0.1, 99.9])
    assert found.scale == np.float32((high - low) / 255)
    found = formats.fit_percentile(x, formats.parse("int8"), 99.9, symmetric=True)
    assert found.scale == np.float32(np.percentile(np.abs(x), 99.9) / 127)


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": 1, "group": 100}])
def test_least_squares_is_no_worse_than_any_range_it_tries(options: dict[str, int]) -> None:
    x = np.random.default_rng(0).standard_t(3, size=(4, 1000)).astype(np.float32)
    fmt = formats.parse("int4")

    def error(found: formats.Affine) -> NDArray[np.float64]:
        y = formats.round_array(x, fmt, scale=found.scale, zero_point=found.zero_point, **options)  # type: ignore[arg-type]
        squares = (y.astype(np.float64) - x) ** 2
        if not options:
            return squares.sum()
        return squares.sum(axis=1) if "group" not in options else squares.reshape(4, 10, 100).sum(axis=2)

    best, whole = formats.fit_mse(x, fmt, **options), formats.fit_min_max(x, fmt, **options)  # type: ignore[arg-type]
    assert (error(best) <= error(whole)).all() and (error(best) < 0.95 * error(whole)).any()
    for share in (0.25, 0.5, 0.75):
        tried = formats.Affine((whole.scale * np.float32(share)).astype(np.float32), whole.zero_point)
        # Zero points of shrunken ranges are rounded anew in the search, so a range of the same width may differ by half a step.
        assert (error(best) <= error(tried) * 1.02).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: formats.fit_min_max(X, formats.parse("e4m3fn")), "Affine ranges are for integer formats of 2 to 24 bits; got e4m3fn"),
        (lambda: formats.fit_min_max([np.nan], formats.parse("int8")), "NaN or infinities among them; leave those out"),
        (lambda: formats.fit_min_max(X, formats.parse("int8"), axis=3), "axis=3 is not an axis of an array of shape"),
        (lambda: formats.fit_min_max(X, formats.parse("int8"), group=3), "A group size needs the axis along which groups lie"),
        (lambda: formats.fit_mse(X, formats.parse("int8"), axis=0, group=0), "group must be at least 1; got 0"),
        (lambda: formats.fit_percentile(X, formats.parse("int8"), 50), "percentile must be above 50 and at most 100; got 50"),
        (lambda: formats.round_array(X, INT8, zero_point=3), "A zero point or a group size needs a scale too"),
        (
            lambda: formats.round_array(X, formats.parse("int8"), scale=1, zero_point=128),
            "Zero points must be codes of int8, integers",
        ),
        (lambda: formats.round_array(X, INT8, scale=1, zero_point=0.5), "Zero points must be codes of int8"),
        (
            lambda: formats.round_array(X, formats.parse("q8.8"), scale=1, zero_point=1),
            "A zero point is for integer formats",
        ),
        (
            lambda: formats.round_array(X, formats.parse("int8"), "up", "wrap", scale=1, zero_point=1),
            "got int8 with overflow='wrap'",
        ),
        (
            lambda: formats.round_array(X, formats.parse("int8"), scale=[1.0] * 6, axis=0, zero_point=[1, 2]),
            "There must be one zero point",
        ),
        (lambda: formats.round_array(X, INT8, scale=[1.0], axis=1, group=5), r"With groups of 5 along axis 1 of"),
        (lambda: formats.round_array(X, INT8, scale=[1.0], group=5), "A group size needs the axis along which groups lie"),
        (lambda: formats.round_array(X, INT8, scale=[1.0], axis=1, group=0), "group must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_asked(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()

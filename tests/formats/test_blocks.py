"""Block formats, NumPy and every native level, against the specification and gfloat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gfloat.block import compute_scale_amax, quantize_block
from gfloat.formats import all_block_formats
from numpy.typing import NDArray

from convsmith import _native, formats
from convsmith.errors import UsageError
from convsmith.formats import CATALOGUE, Format

LEVELS = ["numpy", *_native.levels()]
SEED, STREAM = 5, 9


def rounded(level: str, x: NDArray[Any], fmt: Format, *modes: Any, threads: int = 1, **options: Any) -> NDArray[Any]:
    if level == "numpy":
        return formats.round_numpy(x, fmt, *modes, **options)
    return formats.round_array(x, fmt, *modes, isa=level, threads=threads, **options)


def bits(x: NDArray[Any]) -> NDArray[Any]:
    assert x.dtype == np.float32
    return np.ascontiguousarray(x).view(np.uint32)


def by_specification(
    x: NDArray[Any], fmt: Format, rounding: formats.Rounding, overflow: formats.Overflow, axis: int, random_bits: int = 24
) -> NDArray[np.float32]:
    """Round block by block; random words belong to indices in C order."""
    words = (formats.random_words(0, x.size, SEED, STREAM) >> np.uint32(32 - random_bits)).reshape(x.shape)
    result = np.empty(x.shape, np.float32)
    for place in np.ndindex(*(size for i, size in enumerate(x.shape) if i != axis)):
        for start in range(0, x.shape[axis], fmt.block_size):
            where = (*place[:axis], slice(start, start + fmt.block_size), *place[axis:])
            block, drawn = x[where].tolist(), words[where].tolist()
            result[where] = formats.round_block(block, fmt, rounding, overflow, drawn, random_bits)
    return result


def telling(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Normal numbers of many magnitudes; zeros, whole blocks of them, subnormals, ends of float32, NaN and infinities among them."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * np.exp2(rng.integers(-3, 4, shape))).astype(np.float32)
    flat = x.reshape(-1)
    flat[::7] = np.round(flat[::7])
    flat[40:90] = 0.0
    flat[::31] = -0.0
    flat[130:180] *= np.float32(1e-38)
    flat[200:240] *= np.float32(1e-40)
    flat[260:300] *= np.float32(2.0**123)
    flat[300:304] = np.float32(3.4e38)
    flat[320], flat[401], flat[450] = np.nan, np.inf, -np.inf
    flat[500:520] *= np.exp2(rng.integers(-120, 0, 20)).astype(np.float32)
    return x


CASES = [
    ("mxfp8_e5m2", (6, 96), 1),
    ("mxfp8_e4m3", (6, 96), 1),
    ("mxfp6_e3m2", (6, 96), 1),
    ("mxfp6_e2m3", (600,), 0),
    ("mxfp4", (4, 3, 64), 2),
    ("mxint8", (5, 128), 1),
    ("msfp12", (7, 80), 1),
    ("mxfp4:fit", (6, 96), 1),
    ("mxint8:fit", (6, 96), 1),
    ("mxfp4", (3, 35, 6), 1),
    ("mxint8", (70, 9), 0),
    ("mxfp8_e4m3", (40, 77), 0),
    ("block<e3m1,7>", (9, 65), 1),
    ("block<e2m1,100,ue4m0fn:nozero>", (4, 150), 1),
    ("block<e4m3ieee,64>", (9, 64), 1),
    ("block<int4,1>", (600,), 0),
]


def chosen(text: str) -> Format:
    fmt = formats.parse(text.removesuffix(":fit"))
    return fmt if not text.endswith(":fit") else Format.block(fmt.element, fmt.block_size, rule="fit")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", formats.ROUNDINGS)
@pytest.mark.parametrize(("text", "shape", "axis"), CASES)
def test_all_levels_equal_the_specification_bit_for_bit(text: str, shape: tuple[int, ...], axis: int, mode: formats.Rounding) -> None:
    fmt, x = chosen(text), telling(shape)
    overflow: formats.Overflow = "infinity" if "ieee" in text else "saturate"
    want = by_specification(x, fmt, mode, overflow, axis)
    for level in LEVELS:
        got = rounded(level, x, fmt, mode, overflow, axis=axis, seed=SEED, stream=STREAM)
        wrong = np.argwhere((bits(got) != bits(want)) & ~(np.isnan(got) & np.isnan(want)))
        assert wrong.size == 0, (level, [(x[tuple(w)], got[tuple(w)], want[tuple(w)]) for w in wrong[:3]])
        assert (bits(got) != 0xFFC00000).all()


@pytest.mark.parametrize("index", range(len(all_block_formats)))
def test_mx_formats_equal_gfloat(index: int) -> None:
    other = all_block_formats[index]
    name = {"mxfp4_e2m1": "mxfp4"}.get(other.name, other.name)
    x = np.random.default_rng(2).normal(size=(60, 32)).astype(np.float32)
    with np.errstate(divide="ignore"):
        theirs = np.array([quantize_block(other, block.astype(np.float64), compute_scale_amax) for block in x])
    np.testing.assert_array_equal(formats.round_array(x, CATALOGUE[name]), theirs)


@pytest.mark.parametrize("level", LEVELS)
def test_float64_blocks_are_rounded_once(level: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 40)) * 10.0 ** rng.integers(-60, 39, (8, 1))
    x[0, :3] = [1e300, -1e-300, 5e-324]
    x[1, 0] = np.nan
    for mode in ("nearest_even", "up", "stochastic"):
        want = by_specification(x, CATALOGUE["mxfp6_e3m2"], mode, "saturate", 1)  # type: ignore[arg-type]
        got = rounded(level, x, CATALOGUE["mxfp6_e3m2"], mode, axis=1, seed=SEED, stream=STREAM)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(got[~np.isnan(got)], want[~np.isnan(want)])


@pytest.mark.parametrize("level", LEVELS)
def test_many_blocks_on_threads(level: str) -> None:
    fmt = CATALOGUE["mxfp8_e4m3"]
    for shape, axis in (((300_032,), 0), ((3, 333, 333), 1), ((11, 30_011), 1)):
        x = np.random.default_rng(4).normal(size=shape).astype(np.float32)
        want = formats.round_numpy(x, fmt, "stochastic", axis=axis, seed=8)
        if level == "reference" or level == "numpy":
            x, want = x[:1], formats.round_numpy(x[:1], fmt, "stochastic", axis=axis, seed=8)
        for threads in (1, 3):
            got = rounded(level, x, fmt, "stochastic", axis=axis, seed=8, threads=threads)
            np.testing.assert_array_equal(got, want)


def test_places_and_outs() -> None:
    x = telling((6, 96))
    fmt = CATALOGUE["mxfp4"]
    want = formats.round_array(x, fmt)
    np.testing.assert_array_equal(formats.round_array(x, fmt, axis=-1), want)
    np.testing.assert_array_equal(formats.round_array(np.asfortranarray(x), fmt), want)
    np.testing.assert_array_equal(formats.round_array(np.ascontiguousarray(x.T).T, fmt, axis=1), want)
    place = x.copy()
    assert formats.round_array(place, fmt, out=place) is place
    np.testing.assert_array_equal(place, want)
    wide = np.zeros((6, 192), np.float32)
    formats.round_array(x, fmt, out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], want)
    shifted = np.concatenate([x.reshape(-1), np.zeros(1, np.float32)])
    formats.round_array(shifted[:-1], fmt, out=shifted[1:])
    np.testing.assert_array_equal(shifted[1:], formats.round_array(x.reshape(-1), fmt))
    for empty in ((0,), (3, 0), (0, 5)):
        assert formats.round_array(np.zeros(empty, np.float32), fmt).shape == empty
    assert formats.round_array(np.float32(3.3), fmt).tolist() == 3.0
    assert formats.round_array(np.arange(5), fmt).tolist() == [0, 1, 2, 3, 4]


def test_idempotent_where_nothing_saturates() -> None:
    x = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    for name in ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "msfp12", "mxint8"):
        y = formats.round_array(x, CATALOGUE[name])
        np.testing.assert_array_equal(formats.round_array(y, CATALOGUE[name]), y)
        np.testing.assert_array_equal(formats.round_array(-x, CATALOGUE["msfp12"]), -formats.round_array(x, CATALOGUE["msfp12"]))


def test_the_rule_fit_never_saturates_nearest() -> None:
    x = np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)
    for text in ("mxfp4", "mxfp8_e4m3", "mxint8"):
        fmt = chosen(text + ":fit")
        exponents, bad = formats.shared_exponents(x, fmt)
        assert exponents.shape == (200, 1) and not bad.any()
        assert (np.abs(x).max(axis=1) <= formats.max_value(fmt.element) * np.exp2(exponents[:, 0])).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 2.0}, r"block<e2m1,32> finds its own scales; leave out scale, zero_point and group"),
        ({"group": 4}, "finds its own scales"),
        ({"axis": 2}, r"Blocks lie along an axis; got axis=2 for an array of shape \(3, 4\)"),
        ({"overflow": "infinity"}, "overflow='infinity' needs a format with infinities or NaN; e2m1 has neither"),
        ({"threads": 0}, "threads must be at least 1; got 0"),
        ({"out": np.zeros((3, 4))}, "out must be a writable float32 array"),
        ({"seed": -1}, r"seed must be 0 to 2\^64 - 1"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        formats.round_array(np.ones((3, 4), np.float32), CATALOGUE["mxfp4"], **options)

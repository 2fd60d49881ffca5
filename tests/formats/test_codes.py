"""Integer codes against ml_dtypes and gfloat, packed bits against their definition, and packed tensors against rounding."""

from __future__ import annotations

import sys
from pathlib import Path

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat.formats import format_info_p3109
from gfloat.types import Signedness

from convsmith import formats
from convsmith.errors import DataError, UsageError
from convsmith.formats import CATALOGUE, Format

ML_CODES = {
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3": ml_dtypes.float8_e4m3,
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e3m4": ml_dtypes.float8_e3m4,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e8m0": ml_dtypes.float8_e8m0fnu,
}
SMALL = [name for name, fmt in CATALOGUE.items() if fmt.element is None and fmt.bits <= 16]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    number = ~np.isnan(a)
    return bool((np.isnan(b) == ~number).all() and (a[number] == b[number]).all() and (np.signbit(a) == np.signbit(b))[number].all())


@pytest.mark.parametrize("name", ML_CODES)
def test_codes_are_those_of_ml_dtypes(name: str) -> None:
    fmt, dtype = CATALOGUE[name], np.dtype(ML_CODES[name])
    codes = np.arange(1 << fmt.bits, dtype=f"u{dtype.itemsize}")
    theirs = codes.view(dtype).astype(np.float32)
    assert same(formats.decode(codes, fmt), theirs)
    number = ~np.isnan(theirs)
    np.testing.assert_array_equal(formats.encode(theirs[number], fmt), codes[number])


@pytest.mark.parametrize("precision", range(1, 9))
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_codes_of_p3109_are_those_of_gfloat(precision: int, signed: bool, extended: bool) -> None:
    if signed and precision == 8:
        return
    fmt = CATALOGUE[f"p3109_k8p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"]
    signedness = Signedness.Signed if signed else Signedness.Unsigned
    domain = gfloat.Domain.Extended if extended else gfloat.Domain.Finite
    other = format_info_p3109(8, precision, signedness, domain)
    theirs = np.array([gfloat.decode_float(other, code).fval for code in range(256)])
    assert same(formats.decode(np.arange(256), fmt).astype(np.float64), theirs)
    assert (formats.max_value(fmt), formats.smallest_positive(fmt)) == (other.max, other.smallest)


def test_codes_of_dlfloat() -> None:
    # Agrawal et al. 2019: bias 31, zero is the code 0 alone, exponent field 0 is normal, the all-ones code is no number.
    fmt = CATALOGUE["dlfloat"]
    codes = np.array([0, 1, 1 << 9, 31 << 9, 0x7FFE, 0x7FFF, 0x8000, 0x8001])
    want = [0.0, 2.0**-31 + 2.0**-40, 2.0**-30, 1.0, 2.0**33 - 2.0**24, np.nan, -0.0, -(2.0**-31) - 2.0**-40]
    assert same(formats.decode(codes, fmt), np.array(want, np.float32))


@pytest.mark.parametrize("name", SMALL)
def test_every_code_of_every_preset_up_to_16_bits_comes_back(name: str) -> None:
    fmt = CATALOGUE[name]
    codes = np.arange(1 << fmt.bits)
    values = formats.decode(codes, fmt)
    inside = ~np.isnan(values)
    if fmt.symmetric and fmt.kind == "integer":
        inside[1 << (fmt.bits - 1)] = False
        assert values[1 << (fmt.bits - 1)] == -(1 << (fmt.bits - 1))
    np.testing.assert_array_equal(formats.encode(values[inside], fmt), codes[inside])
    finite = np.unique(values[inside & np.isfinite(values)])
    np.testing.assert_array_equal(finite, formats.values(fmt))
    if fmt.has_nan:
        assert np.isnan(formats.decode(formats.encode(np.array([np.nan]), fmt), fmt)).all()
    np.testing.assert_array_equal(formats.round_array(finite, fmt), finite)


@pytest.mark.parametrize(
    "text", "e4m3fn e3m2extended ue4m1extended e2m3 e8m0 dlfloat fp16 bf16 binary ternary q4.12 uint4 ufixed<1,3> fp64 fp32 int32".split()
)
def test_arrays_equal_the_scalar_specification(text: str) -> None:
    fmt = formats.parse(text)
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 1 << min(fmt.bits, 62), 2000, dtype=np.uint64) << np.uint64(max(fmt.bits - 62, 0)))
    values = formats.decode(codes, fmt)
    assert same(values.astype(np.float64), np.array([formats.decode_scalar(int(c), fmt) for c in codes]))
    for code, value in zip(codes, values, strict=True):
        if not np.isnan(value):
            assert formats.encode_scalar(float(value), fmt) == int(code)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(formats.encode(values[number], fmt), codes[number])


@pytest.mark.parametrize("x", [0.3, np.inf, np.nan, -500.0])
@pytest.mark.parametrize("text", ["e2m1", "int8", "binary", "ufixed<0,8>"])
def test_numbers_outside_the_format_have_no_code(text: str, x: float) -> None:
    fmt = formats.parse(text)
    with pytest.raises(UsageError, match=rf"is not a value of {text}; round it first"):
        formats.encode_scalar(x, fmt)
    with pytest.raises(UsageError, match=rf"x\[0, 1\] = .* is not a value of {text}; round it first"):
        formats.encode(np.array([[1.0 if text != "ufixed<0,8>" else 0.5, x]]), fmt)


def test_what_are_no_codes() -> None:
    for codes in (np.array([256]), np.array([-1]), np.array([1.0])):
        with pytest.raises(UsageError, match=r"Codes of e4m3fn are integers from 0 to 255; got"):
            formats.decode(codes, CATALOGUE["e4m3fn"])
    with pytest.raises(UsageError, match="256 is not a code of e4m3fn"):
        formats.decode_scalar(256, CATALOGUE["e4m3fn"])
    with pytest.raises(UsageError, match=r"block<e2m1,32> has codes for scales and elements; pack_tensor makes them"):
        formats.decode(np.array([1]), CATALOGUE["mxfp4"])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("bits", range(1, 65))
def test_packed_bits_are_where_the_layout_says(bits: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setitem(sys.modules, "convsmith._native", None)
    rng = np.random.default_rng(bits)
    for count in (0, 1, 7, 64, 65, 200):
        codes = rng.integers(0, (1 << bits) - 1, count, dtype=np.uint64, endpoint=True)
        packed = formats.pack(codes, bits)
        assert packed.size == formats.packed_bytes(count, bits) == -(-count * bits // 8)
        whole = sum(int(code) << (i * bits) for i, code in enumerate(codes))
        assert packed.tobytes() == whole.to_bytes(packed.size, "little")
        np.testing.assert_array_equal(formats.unpack(packed, bits, count), codes)


def test_packing_of_many_codes_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_THREADS", "3")
    for bits in (3, 5, 12, 17):
        codes = np.random.default_rng(0).integers(0, 1 << bits, 300_001)
        packed = formats.pack(codes, bits)
        flags = np.unpackbits(packed, bitorder="little")[: codes.size * bits].reshape(-1, bits)
        np.testing.assert_array_equal((flags * (1 << np.arange(bits))).sum(axis=1), codes)
        np.testing.assert_array_equal(formats.unpack(packed, bits, codes.size), codes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: formats.pack([1], 65), "Codes have 1 to 64 bits; got 65"),
        (lambda: formats.pack([8], 3), "Codes of 3 bits are integers from 0 to 7; got int64 out of that range"),
        (lambda: formats.pack([0.5], 3), "got float64 out of that range"),
        (lambda: formats.unpack(np.zeros(2, np.uint8), 3, 6), "6 codes of 3 bits take 3 bytes; got uint8 of shape"),
        (lambda: formats.unpack(np.zeros(9, np.int64), 3, 6), "got int64 of shape"),
    ],
)
def test_what_cannot_be_packed(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


X = (np.random.default_rng(3).normal(size=(6, 5, 21)) * 3).astype(np.float32)
OPTIONS = {
    "e3m2": {},
    "e4m3fn": {"scale": 0.25},
    "binary": {"scale": 0.7},
    "int5:symmetric": {"scale": np.linspace(0.1, 0.4, 5), "axis": 1},
    "uint8": {"scale": 0.05, "zero_point": 111},
    "int4": {"scale": np.full((6, 5, 5), 0.7), "zero_point": 2, "axis": 2, "group": 5},
    "fixed<4,8>": {},
    "q16.16": {},
    "mxfp4": {},
    "mxint8": {"axis": 0},
    "msfp12": {"axis": 1},
    "block<e3m1,7>": {"axis": -1},
}


@pytest.mark.parametrize("mode", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("text", OPTIONS)
def test_packed_tensors_hold_what_rounding_gives(text: str, mode: formats.Rounding, tmp_path: Path) -> None:
    fmt, options = formats.parse(text), OPTIONS[text]
    want = formats.round_array(X, fmt, mode, seed=4, **options)  # type: ignore[arg-type]
    packed = formats.pack_tensor(X, fmt, mode, seed=4, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(formats.unpack_tensor(packed), want)
    assert packed.codes.nbytes == -(-X.size * fmt.bits // 8)
    file = tmp_path / "tensor.packed"
    formats.save(packed, file)
    assert file.stat().st_size < packed.nbytes + 160
    again = formats.unpack_tensor(formats.load(file))
    assert again.dtype == want.dtype
    np.testing.assert_array_equal(again, want)


def test_files_are_as_small_as_they_say(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    for text, bits in (("int3", 3.0), ("e2m2", 5.0), ("fixed<4,8>", 12.0), ("mxfp4", 4.25), ("binary", 1.0)):
        fmt = formats.parse(text)
        assert fmt.bits_per_value == bits
        formats.save(formats.pack_tensor(x, fmt), tmp_path / "x")
        assert (tmp_path / "x").stat().st_size <= x.size * bits / 8 + 80


def test_blocks_that_hold_no_numbers_and_empty_tensors(tmp_path: Path) -> None:
    x = np.ones((2, 64), np.float32)
    x[0, 3], x[1, 40] = np.nan, np.inf
    packed = formats.pack_tensor(x, CATALOGUE["mxfp4"])
    assert formats.unpack(packed.scales, 8, 4).tolist() == [255, 125, 125, 255]
    assert np.isnan(formats.unpack_tensor(packed)).reshape(4, 32).all(axis=1).tolist() == [True, False, False, True]
    for shape in ((0,), (3, 0), ()):
        for text in ("mxfp4", "e2m1"):
            formats.save(formats.pack_tensor(np.ones(shape), formats.parse(text)), tmp_path / "x")
            np.testing.assert_array_equal(formats.unpack_tensor(formats.load(tmp_path / "x")), np.ones(shape))
    with pytest.raises(UsageError, match="is not a value of e2m1"):
        formats.pack_tensor(np.array([np.nan]), CATALOGUE["e2m1"])
    with pytest.raises(UsageError, match="finds its own scales; leave out scale"):
        formats.pack_tensor(x, CATALOGUE["mxfp4"], scale=2.0)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with pytest.raises(DataError, match="there is no packed tensor"):
        formats.load(file)
    file.write_bytes(b"PNG")
    with pytest.raises(DataError, match="is not a packed tensor of this version"):
        formats.load(file)
    formats.save(formats.pack_tensor(X, Format.integer(8)), file)
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match="the file was cut off or changed"):
        formats.load(file)
    file.write_bytes(content[:20])
    with pytest.raises(DataError, match=r"the header of .* cannot be read"):
        formats.load(file)

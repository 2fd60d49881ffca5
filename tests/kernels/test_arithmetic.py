"""The record of an arithmetic: JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.kernels.arithmetic import Arithmetic

FP16 = formats.parse("fp16")


@pytest.mark.parametrize(
    "arithmetic",
    [
        Arithmetic(FP16),
        Arithmetic(FP16, None, "toward_zero", "infinity", order="kahan"),
        Arithmetic(formats.parse("e4m3fn"), formats.parse("e5m10"), "stochastic", random_bits=12, order="blocked", block=7),
    ],
)
def test_json_round_trip(arithmetic: Arithmetic) -> None:
    assert Arithmetic.from_dict(json.loads(json.dumps(arithmetic.to_dict()))) == arithmetic


def test_names_of_formats_are_read() -> None:
    assert Arithmetic.from_dict({"format": "q8.8", "product": "fp16"}) == Arithmetic(formats.parse("q8.8"), FP16)
    assert Arithmetic(FP16).product_format == FP16
    assert Arithmetic(FP16, None).product_format is None


@pytest.mark.parametrize("random_bits, width", [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (24, 32)])
def test_draw_width(random_bits: int, width: int) -> None:
    assert Arithmetic(FP16, random_bits=random_bits).draw_width == width


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"format": "fp16"}, "format must be a Format; got 'fp16'"),
        ({"format": FP16, "product": "exact"}, 'product must be a Format, "same", or None for a fused multiply-add; got .exact.'),
        ({"format": FP16, "rounding": "nearest"}, "Unknown rounding 'nearest'"),
        ({"format": FP16, "overflow": "wrap"}, "overflow='wrap' is for fixed point"),
        ({"format": FP16, "product": formats.parse("e2m1"), "overflow": "infinity"}, "overflow='infinity' needs a format with infinities"),
        ({"format": FP16, "random_bits": 25}, "random_bits must be 1 to 24; got 25"),
        ({"format": FP16, "order": "sequentially"}, "Unknown order 'sequentially'. Did you mean 'sequential'"),
        ({"format": FP16, "product": None, "order": "pairwise"}, "no product to fuse"),
        ({"format": FP16, "block": 0}, "block must be a whole number of terms"),
    ],
)
def test_refusals(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Arithmetic(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["e11m52", "binary", "block<int8,32>", "e4m3:normal"])
def test_formats_without_arithmetic(text: str) -> None:
    with pytest.raises(UnsupportedError, match=f"No arithmetic in {text}.*product must be"):
        Arithmetic(FP16, formats.parse(text))


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(UsageError, match=r"no field 'formt'; it has .* Did you mean 'format'\?"):
        Arithmetic.from_dict({"formt": "fp16"})
    with pytest.raises(UsageError, match="needs the field 'format'; got order"):
        Arithmetic.from_dict({"order": "kahan"})

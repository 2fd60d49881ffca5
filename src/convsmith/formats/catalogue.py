"""The formats known by name, each with its source."""

from __future__ import annotations

from typing import Final

from convsmith.errors import UsageError
from convsmith.formats.format import SHARED_EXPONENT, Format, Specials
from convsmith.formats.notation import parse_notation

_E4M3FN: Final = Format.float(4, 3, specials="fn")
_E3M2: Final = Format.float(3, 2, specials="finite")
_E2M3: Final = Format.float(2, 3, specials="finite")
_E2M1: Final = Format.float(2, 1, specials="finite")

CATALOGUE: Final[dict[str, Format]] = {
    "fp64": Format.float(11, 52),
    "fp32": Format.float(8, 23),
    "tf32": Format.float(8, 10),
    "bf16": Format.float(8, 7),
    "fp16": Format.float(5, 10),
    "e8m6": Format.float(8, 6),
    "e6m9": Format.float(6, 9),
    "dlfloat": Format.float(6, 9, subnormals=False, specials="fn", all_normal=True),
    "e5m2": Format.float(5, 2),
    "e4m3": Format.float(4, 3),
    "e4m3fn": _E4M3FN,
    "e3m4": Format.float(3, 4),
    "e5m2fnuz": Format.float(5, 2, specials="fnuz"),
    "e4m3fnuz": Format.float(4, 3, specials="fnuz"),
    "e4m3b11fnuz": Format.float(4, 3, bias=11, specials="fnuz"),
    "e3m2": _E3M2,
    "e2m3": _E2M3,
    "e2m1": _E2M1,
    "e8m0": SHARED_EXPONENT,
    "pow2_5": Format.float(4, 0, bias=15, specials="finite"),
    "pow2_4": Format.float(3, 0, bias=7, specials="finite"),
    "int32": Format.integer(32),
    "int16": Format.integer(16),
    "int8": Format.integer(8),
    "uint8": Format.integer(8, signed=False),
    "int4": Format.integer(4),
    "uint4": Format.integer(4, signed=False),
    "ternary": Format.integer(2, symmetric=True),
    "binary": Format.binary(),
    "q2.14": Format.fixed(2, 14),
    "q4.12": Format.fixed(4, 12),
    "q6.10": Format.fixed(6, 10),
    "q8.8": Format.fixed(8, 8),
    "q16.16": Format.fixed(16, 16),
    "mxfp8_e5m2": Format.block(Format.float(5, 2)),
    "mxfp8_e4m3": Format.block(_E4M3FN),
    "mxfp6_e3m2": Format.block(_E3M2),
    "mxfp6_e2m3": Format.block(_E2M3),
    "mxfp4": Format.block(_E2M1),
    "mxint8": Format.block(Format.fixed(2, 6)),
    "msfp16": Format.block(Format.fixed(2, 6, symmetric=True), 16),
    "msfp12": Format.block(Format.fixed(2, 2, symmetric=True), 16),
}

_MX: Final = "OCP microscaling formats 1.0, 2023: blocks of 32 elements with a shared 8-bit exponent"
_MSFP: Final = "Darvish Rouhani et al. 2020, NeurIPS 33: blocks of 16, a shared 8-bit exponent, sign and magnitude"
_FNUZ: Final = "Noune et al. 2022, arXiv 2206.02915; no infinities, NaN in the code of negative zero"

SOURCES: Final[dict[str, str]] = {
    "fp64": "IEEE 754-2019 binary64",
    "fp32": "IEEE 754-2019 binary32",
    "tf32": "NVIDIA A100 architecture white paper, 2020: 8 exponent and 10 fraction bits",
    "bf16": "Intel BFLOAT16 hardware numerics definition, 2018",
    "fp16": "IEEE 754-2019 binary16",
    "e8m6": "1-8-6: bf16 with one fraction bit less",
    "e6m9": "1-6-9: Wang et al. 2018, arXiv 1812.08011, the format of sums and updates",
    "dlfloat": "Agrawal et al. 2019, DLFloat, ARITH 26: 1-6-9 without subnormals, one code for NaN and infinity",
    "e5m2": "OCP 8-bit floating point specification 1.0, 2023; 1-5-2 of Wang et al. 2018, arXiv 1812.08011",
    "e4m3": "IEEE 754-2019 rules with 4 exponent and 3 fraction bits",
    "e4m3fn": "OCP 8-bit floating point specification 1.0, 2023 (E4M3); Micikevicius et al. 2022, arXiv 2209.05433",
    "e3m4": "IEEE 754-2019 rules with 3 exponent and 4 fraction bits",
    "e5m2fnuz": _FNUZ,
    "e4m3fnuz": _FNUZ,
    "e4m3b11fnuz": "1-4-3 of hybrid FP8: Sun et al. 2019, NeurIPS 32; codes as in ml_dtypes",
    "e3m2": "OCP microscaling formats 1.0, 2023 (FP6)",
    "e2m3": "OCP microscaling formats 1.0, 2023 (FP6)",
    "e2m1": "OCP microscaling formats 1.0, 2023 (FP4)",
    "e8m0": "OCP microscaling formats 1.0, 2023: the shared scale, a power of two without sign and zero",
    "pow2_5": "zero and powers of two up to 1, as in Zhou et al. 2017, arXiv 1702.03044, with all codes used",
    "pow2_4": "zero and powers of two up to 1, as in Zhou et al. 2017, arXiv 1702.03044, with all codes used",
    "int32": "two's complement, 32 bits",
    "int16": "two's complement, 16 bits",
    "int8": "two's complement, 8 bits",
    "uint8": "unsigned, 8 bits",
    "int4": "two's complement, 4 bits",
    "uint4": "unsigned, 4 bits",
    "ternary": "-1, 0 and 1: Li et al. 2016, arXiv 1605.04711",
    "binary": "-1 and 1: Courbariaux et al. 2015, arXiv 1511.00363",
    "q2.14": "Gupta et al. 2015, arXiv 1502.02551: weights <2,14>",
    "q4.12": "Gupta et al. 2015, arXiv 1502.02551: CIFAR-10 layer outputs <4,12>",
    "q6.10": "Gupta et al. 2015, arXiv 1502.02551: MNIST layer outputs <6,10>",
    "q8.8": "fixed point with 16 bits, half of them fraction",
    "q16.16": "fixed point with 32 bits, half of them fraction",
    "mxfp8_e5m2": _MX,
    "mxfp8_e4m3": _MX,
    "mxfp6_e3m2": _MX,
    "mxfp6_e2m3": _MX,
    "mxfp4": _MX,
    "mxint8": _MX,
    "msfp16": _MSFP,
    "msfp12": _MSFP,
}


def _p3109(precision: int, signed: bool, extended: bool) -> Format:
    """Return the 8-bit IEEE P3109 format of a precision, its leading bit counted."""
    exponent_bits = 8 - signed - (precision - 1)
    specials: Specials = "extended" if extended else "fnuz" if signed else "fn"
    bias = 1 << (exponent_bits - 1)
    return Format.float(exponent_bits, precision - 1, bias=bias, specials=specials, signed=signed)


for _signed, _extended in ((True, True), (True, False), (False, True), (False, False)):
    for _precision in range(1, 8 if _signed else 9):
        _name = f"p3109_k8p{_precision}{'s' if _signed else 'u'}{'e' if _extended else 'f'}"
        CATALOGUE[_name] = _p3109(_precision, _signed, _extended)
        SOURCES[_name] = "IEEE P3109 interim report on 8-bit formats for machine learning, 2025"


def register(name: str, fmt: Format, source: str) -> None:
    """Add a format under a new name.

    Raises: UsageError when the name is taken, or is already a text that `parse` reads (its meaning must not change).
    """
    if name in CATALOGUE:
        raise UsageError(f"A format named {name!r} exists already ({CATALOGUE[name]}); choose another name.")
    if parse_notation(name) is not None:
        raise UsageError(f"{name!r} is the notation of a format, so it cannot be a name for {fmt}; choose another name.")
    CATALOGUE[name] = fmt
    SOURCES[name] = source

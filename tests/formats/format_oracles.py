"""The same formats and modes as gfloat and ml_dtypes, two independent libraries, name them."""

from __future__ import annotations

import gfloat
import ml_dtypes
import numpy as np
from gfloat import RoundMode

from convsmith import formats
from convsmith.formats import Format

ML_DTYPES = {
    "fp32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e4m3": ml_dtypes.float8_e4m3,
    "e3m4": ml_dtypes.float8_e3m4,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}

GFLOAT_MODES: dict[formats.Rounding, RoundMode] = {
    "toward_zero": RoundMode.TowardZero,
    "nearest_even": RoundMode.TiesToEven,
    "nearest_away": RoundMode.TiesToAway,
    "up": RoundMode.TowardPositive,
    "down": RoundMode.TowardNegative,
    "stochastic": RoundMode.StochasticFastest,
}


def gfloat_format(fmt: Format) -> gfloat.FormatInfo:
    """The same format as gfloat describes it; P3109's from gfloat's own catalogue are `gfloat.formats.format_info_p3109`."""
    high_nans = {"ieee": (1 << fmt.significand_bits) - 1, "fn": 1, "finite": 0, "fnuz": 0, "extended": 0 if fmt.signed else 1}
    return gfloat.FormatInfo(
        name=str(fmt),
        k=fmt.bits,
        precision=fmt.significand_bits + 1,
        bias=fmt.bias,
        is_signed=fmt.signed,
        domain=gfloat.Domain.Extended if fmt.has_infinity else gfloat.Domain.Finite,
        has_nz=fmt.negative_zero,
        num_high_nans=high_nans[fmt.specials],
        has_subnormals=fmt.subnormals,
        is_twos_complement=False,
    )

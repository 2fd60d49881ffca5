"""Amounts of memory as people write them: ``3GB``, ``500MB``, ``2GiB``, or a number of bytes."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_amount(value: Any) -> int:
    """Return the bytes of a number or of text with a unit, kB to TB by 1000 and KiB to TiB by 1024; ``ValueError`` for anything else."""
    found = _FORM.fullmatch(str(value).strip().lower())
    count = float(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else math.nan
    if not (math.isfinite(count) and count >= 1):
        raise ValueError(f"{value!r} is not an amount of memory; write for example 3GB, 500MB or 2GiB")
    return round(count)


Amount = Annotated[int, BeforeValidator(parse_amount)]
"""A field that takes ``3GB`` as well as 3000000000, in bytes."""

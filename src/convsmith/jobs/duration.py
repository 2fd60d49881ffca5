"""Times as people write them: ``90``, ``90s``, ``10m``, ``1.5h``, ``1h30m``."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from convsmith.errors import UsageError

_UNITS_S = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def parse_duration(value: Any) -> float:
    """Return the seconds of a number or of text with units s, m, h, d, also joined as in ``1h30m``.

    Raises: UsageError for anything else, and for zero.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = _seconds(str(value).strip().lower())
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"{value!r} is not a duration; write a number of seconds above 0, or for example 90s, 10m, 1h30m")
    return seconds


def _seconds(text: str) -> float:
    parts = list(_PART.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text or any(part[2] not in _UNITS_S for part in parts):
        return math.nan
    if len(parts) > 1 and any(part[2] == "" for part in parts):
        return math.nan
    return sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)


def format_duration(seconds: float) -> str:
    """Return for example ``0.8 s``, ``42 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _validate(value: Any) -> float:
    try:
        return parse_duration(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[float, BeforeValidator(_validate)]
"""A field that takes ``10m`` as well as 600, in seconds."""

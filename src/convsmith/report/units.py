"""Numbers as a reader wants them: three significant digits, a no-break space, SI prefixes, one style on the whole page."""

from __future__ import annotations

import math
from datetime import datetime

SPACE = "\u202f"
MINUS = "\u2212"
MISSING = "–"


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def digits3(value: float) -> str:
    """Return ``value`` with three significant digits and no exponent: 0.0123, 1.23, 12.3, 123, 12,300."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    rounded = abs(float(f"{value:.3g}"))
    places = max(0, 2 - math.floor(math.log10(rounded)))
    text = f"{value:,.{min(places, 9)}f}"
    return text.replace("-", MINUS)


def count(value: float | None) -> str:
    """Return a whole number with thousands separated: 1,797."""
    return MISSING if value is None or _missing(value) else f"{round(value):,}".replace("-", MINUS)


def percent(share: float | None, n: int | None = None) -> str:
    """Return a share 0..1 as per cent: one decimal, two when ``n`` images (2,000 or more) can tell them apart.

    What is not all or nothing is not rounded to it: 0.9995 is 99.95 %.
    """
    if share is None or _missing(share):
        return MISSING
    places = 2 if n is not None and n >= 2000 else 1
    while places < 4 and 0 < share < 1 and f"{100 * share:.{places}f}" in (f"{100:.{places}f}", f"{0:.{places}f}"):
        places += 1
    return f"{100 * share:.{places}f}{SPACE}%"


def axis_percent(share: float) -> str:
    """Return a tick of an axis of shares, with as many digits as it has: 97.5 %."""
    return f"{100 * share:.4g}{SPACE}%"


def points(share: float | None) -> str:
    """Return a difference of shares in percentage points with its sign: −0.28."""
    if share is None or _missing(share):
        return MISSING
    text = f"{100 * share:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for step, unit in steps:
        # 999.5 would round to 1,000 of the smaller unit
        if abs(value) >= 0.9995 * step:
            return f"{digits3(value / step)}{SPACE}{unit}".rstrip(SPACE)
    return f"{digits3(value)}{SPACE}{steps[-1][1]}".rstrip(SPACE)


def epochs(value: float) -> str:
    """Return epochs with at most one decimal: 24, 32.6."""
    return f"{round(value, 1):,g}"


def tiny(value: float | None) -> str:
    """Return a very small number as 3.1 × 10⁻⁷."""
    if value is None or _missing(value):
        return MISSING
    if value == 0:
        return "0"
    factor, _, exponent = f"{value:.1e}".partition("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{factor}{SPACE}×{SPACE}10{power}"


def size(n_bytes: float | None) -> str:
    """Return bytes in powers of 1000: 84.2 kB."""
    if n_bytes is None or _missing(n_bytes):
        return MISSING
    if abs(n_bytes) < 1000:
        return f"{round(n_bytes)}{SPACE}B"
    return _scaled(n_bytes, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")))


def amount(value: float | None) -> str:
    """Return a large number with an SI prefix: 1.23 M; whole numbers below 1,000 as they are."""
    if value is None or _missing(value):
        return MISSING
    if abs(value) < 1000:
        return str(round(value)) if float(value).is_integer() else digits3(value)
    return _scaled(value, ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")))


def latency(seconds: float | None) -> str:
    """Return a short time with three digits: 214 µs, 2.14 ms, 1.20 s."""
    if seconds is None or _missing(seconds):
        return MISSING
    if seconds == 0:
        return "0"
    return _scaled(seconds, ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))) if seconds >= 1e-6 else f"{digits3(seconds * 1e6)}{SPACE}µs"


def duration(seconds: float | None) -> str:
    """Return a long time in words: 4.2 s, 38 s, 2 min 41 s, 1 h 05 min."""
    if seconds is None or _missing(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60:02d}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}{SPACE}h {minutes % 60:02d}{SPACE}min"


def ratio(value: float | None) -> str:
    """Return a factor: 3.1×."""
    if value is None or _missing(value):
        return MISSING
    return f"{value:.2f}×" if value < 9.995 else f"{value:,.0f}×"


def shape(sizes: object) -> str:
    """Return a shape as 32 × 14 × 14."""
    return " × ".join(str(item) for item in sizes) if isinstance(sizes, list | tuple) else str(sizes)


def moment(iso: object) -> str:
    """Return an ISO time as ``12 March 2026, 14:02 UTC``; the text itself when it is none."""
    try:
        when = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso)
    zone = f" {when.tzname()}" if when.tzname() else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"

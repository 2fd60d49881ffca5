"""The text of a format without a name: ``e5m10``, ``e4m3fn``, ``e5m2:flush``, ``fixed<8,8>``, ``uint4``, ``int8:symmetric``."""

from __future__ import annotations

import re
from typing import Final, cast

from convsmith.formats.format import Format, Specials, standard_specials

_FLOAT: Final = re.compile(r"e(\d+)m(\d+)(ieee|fn|finite)?(?::bias=(-?\d+))?(:flush)?")
_FIXED: Final = re.compile(r"(u?)fixed<(-?\d+),(-?\d+)>(:symmetric)?")
_INTEGER: Final = re.compile(r"(u?)int(\d+)(:symmetric)?")


def parse_notation(text: str) -> Format | None:
    """Return the format that a text spells, or None when the text is no notation at all.

    Raises: UsageError for a well-formed text of a format that cannot exist.
    """
    if found := _FLOAT.fullmatch(text):
        e, m = int(found[1]), int(found[2])
        specials = cast(Specials, found[3] or standard_specials(e, m))
        bias = None if found[4] is None else int(found[4])
        return Format.float(e, m, bias=bias, subnormals=found[5] is None, specials=specials)
    if found := _FIXED.fullmatch(text):
        return Format.fixed(int(found[2]), int(found[3]), not found[1], symmetric=found[4] is not None)
    if found := _INTEGER.fullmatch(text):
        return Format.integer(int(found[2]), not found[1], symmetric=found[3] is not None)
    return None

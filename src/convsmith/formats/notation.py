"""The text of a format without a name: ``e5m10``, ``e4m3fnuz``, ``e5m2:flush``, ``fixed<8,8>``, ``int8:symmetric``, ``block<e2m1,32>``."""

from __future__ import annotations

import re
from typing import Final, cast

from convsmith.formats.format import SHARED_EXPONENT, Format, ScaleRule, Specials, standard_specials

_FLOAT: Final = re.compile(r"(u?)e(\d+)m(\d+)(ieee|fnuz|fn|finite|extended)?(?::bias=(-?\d+))?(:flush|:normal|:nozero)?")
_FIXED: Final = re.compile(r"(u?)fixed<(-?\d+),(-?\d+)>(:symmetric)?")
_INTEGER: Final = re.compile(r"(u?)int(\d+)(:symmetric)?")
_BLOCK: Final = re.compile(r"block<(.+),(\d+)(?:,(u?e\d+m\d+[a-z]*(?::[a-z=0-9-]+)*))?>(?::(fit|floor))?")


def parse_notation(text: str) -> Format | None:
    """Return the format that a text spells, or None when the text is no notation at all.

    Raises: UsageError for a well-formed text of a format that cannot exist.
    """
    if text == "e8m0":
        return SHARED_EXPONENT
    if text == "binary":
        return Format.binary()
    if found := _FLOAT.fullmatch(text):
        return _float(found)
    if found := _FIXED.fullmatch(text):
        return Format.fixed(int(found[2]), int(found[3]), not found[1], symmetric=found[4] is not None)
    if found := _INTEGER.fullmatch(text):
        return Format.integer(int(found[2]), not found[1], symmetric=found[3] is not None)
    if found := _BLOCK.fullmatch(text):
        element = parse_notation(found[1])
        scale = parse_notation(found[3]) if found[3] else None
        if element is None:
            return None
        return Format.block(element, int(found[2]), scale=scale, rule=cast(ScaleRule, found[4] or "floor"))
    return None


def _float(found: re.Match[str]) -> Format:
    e, m = int(found[2]), int(found[3])
    return Format.float(
        e,
        m,
        bias=None if found[5] is None else int(found[5]),
        subnormals=found[6] is None,
        specials=cast(Specials, found[4] or standard_specials(e, m)),
        signed=not found[1],
        all_normal=found[6] in (":normal", ":nozero"),
        zero=found[6] != ":nozero",
    )

"""From text to a format: a catalogue name or a notation."""

from __future__ import annotations

from convsmith.errors import UsageError, near
from convsmith.formats.catalogue import CATALOGUE
from convsmith.formats.format import Format
from convsmith.formats.notation import parse_notation


def parse(text: str) -> Format:
    """Return the format with this catalogue name or notation; spaces and case do not matter.

    A bare ``eXmY`` has IEEE infinities and NaN, except ``e3m2``, ``e2m3`` and ``e2m1``, which mean the OCP formats that have neither;
    write ``e3m2ieee`` for the other. ``parse(str(fmt)) == fmt`` holds for every format.
    Raises: UsageError for an unknown name and for a format that cannot exist.
    """
    plain = "".join(text.split()).lower()
    if plain in CATALOGUE:
        return CATALOGUE[plain]
    fmt = parse_notation(plain)
    if fmt is None:
        raise UsageError(
            f"Unknown number format {text!r}.{near(plain, CATALOGUE)} Write a name that `convsmith precision formats` "
            "lists, or a notation like e5m10, e4m3fn, fixed<8,8>, ufixed<0,8>, int8, block<e2m1,32>."
        )
    return fmt

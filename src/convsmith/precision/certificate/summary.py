"""Certificates as plain data and as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convsmith.precision.certificate.widths import Widths

if TYPE_CHECKING:
    from convsmith.precision.certificate.proof import Certificates

#: Edges of the histogram of margin over bound, in powers of ten; the first and last class are open.
EDGES: Final = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def summarise(found: Certificates, names: Sequence[str] | None = None, worst: int = 10) -> dict[str, Any]:
    """Return what was proved as JSON values: shares, quartiles of margin and bound, reasons, and the images with the least room.

    ``names`` of the images, for the ``worst`` of them without a proof or with the least room.
    """
    n = len(found.classes)
    margin, bound, likely = found.margin, found.bound, found.likely_bound
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(np.isfinite(bound), margin / bound, 0.0)
    order = np.argsort(room, kind="stable")[:worst]
    return {
        "n": n,
        "certain": float(found.certain.mean()),
        "likely": float(found.likely.mean()),
        "failure": found.failure,
        "seconds_per_image": found.seconds / n,
        "margin": quartiles(margin),
        "bound": quartiles(bound),
        "likely_bound": quartiles(likely),
        "room": {"edges": list(EDGES), "counts": histogram(room)},
        "reasons": dict(Counter(reason for reason in found.reasons if reason).most_common()),
        "least_room": [
            {
                "image": int(index) if names is None else names[index],
                "class": int(found.classes[index]),
                "rival": int(found.rival[index]),
                "margin": float(margin[index]),
                "bound": plain(bound[index]),
                "likely_bound": plain(likely[index]),
                "proof": "certain" if found.certain[index] else "likely" if found.likely[index] else "none",
                "reason": found.reasons[index],
            }
            for index in order
        ],
    }


def quartiles(values: Any) -> list[float | None]:
    """Return the quartiles; None where a quartile is infinite, because there is no bound."""
    return [plain(value) for value in np.sort(values)[[len(values) // 4, len(values) // 2, 3 * len(values) // 4]]]


def plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def histogram(room: Any) -> list[int]:
    """Count the images by margin over bound; above one there is a proof."""
    with np.errstate(divide="ignore"):
        powers = np.log10(np.maximum(room, 0.0))
    places = np.searchsorted(EDGES, powers, side="right")
    return [int(count) for count in np.bincount(places, minlength=len(EDGES) + 1)]


def widths_rows(widths: Sequence[Widths]) -> list[list[Any]]:
    """Return the rows of a table: layer, terms, input codes, bits by exact sums, by the l1 norm, by the types."""
    return [[w.layer, w.terms, f"{w.inputs[0]} to {w.inputs[1]}", f"{min(w.exact)} to {w.bits}", max(w.l1), w.by_type] for w in widths]

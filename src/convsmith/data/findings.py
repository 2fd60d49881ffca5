"""What speaks against single images, and the list of those to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.data.likeness import near_pairs
from convsmith.data.measures import Measures
from convsmith.data.source import PARTS, Source
from convsmith.data.split import LEFT_OUT, TEST
from convsmith.data.suspicion import label_beliefs, suspicious
from convsmith.errors import DataError

#: Kind of finding -> what it means; the order is that of the page.
KINDS: Final[dict[str, str]] = {
    "leak": "nearly the same picture in two parts, so that the score is too good",
    "near_conflict": "nearly the same picture under two labels",
    "near_duplicate": "nearly the same picture twice in one part",
    "label": "the other images speak for another label",
    "blank": "next to nothing to see",
    "dark": "very dark",
    "bright": "nearly all white",
    "blurred": "out of focus or moved",
    "size": "far smaller, or far longer than high, than the others",
    "mode": "grey or transparent among colour images",
}
LEAKED: Final = "leaked"
BLANK: Final = 0.05
DARK, BRIGHT = 0.06, 0.94
BLURRED: Final = 0.62
LEAST_SIDE: Final = 32
LEAST_PER_CLASS: Final = 8
ODD_SIZE: Final = 4.0


@dataclass(frozen=True)
class Finding:
    """Something about one image. ``exclude``: whether the list leaves it out unless a person decides otherwise.

    ``other``: the image it resembles. ``score``: likeness, belief in the label, light or blur, by the kind.
    """

    kind: str
    name: str
    part: str
    label: str
    reason: str
    score: float
    exclude: bool = False
    other: str = ""


def find(source: Source, part: NDArray[np.int8], measures: Measures, features: NDArray[np.float32] | None = None) -> tuple[Finding, ...]:
    """Return all findings, the worst of each kind first. ``features``: those of a trained network instead of shapes and colours."""
    side = np.median(source.sizes(), axis=0).min() if len(source) else 0
    found: list[Finding] = []
    if side >= LEAST_SIDE:
        found += _resembling(source, part, measures)
        found += _looks(source, part, measures)
    if source.images is None and len(source):
        found += _odd(source, part)
    found += _doubtful(source, part, measures.features if features is None else features)
    order = list(KINDS)
    return tuple(sorted(found, key=lambda finding: order.index(finding.kind)))


def _make(
    source: Source, part: NDArray[np.int8], row: int, kind: str, reason: str, score: float, exclude: bool = False, other: str = ""
) -> Finding:
    place = PARTS[part[row]] if part[row] != LEFT_OUT else ""
    return Finding(kind, source.title(row), place, source.classes[source.labels[row]], reason, round(float(score), 3), exclude, other)


def _resembling(source: Source, part: NDArray[np.int8], measures: Measures) -> list[Finding]:
    found = []
    gone: set[int] = set()
    for pair in near_pairs(measures.thumbs):
        a, b = pair.first, pair.second
        if source.digests[a] == source.digests[b] or LEFT_OUT in (part[a], part[b]):
            continue  # identical ones are dealt with when the parts are made
        like = "the mirror image of" if pair.mirrored else "nearly the same as"
        if source.labels[a] != source.labels[b]:
            for row, twin in ((a, b), (b, a)):
                reason = f"{like} {source.title(twin)!r}, which is labelled {source.classes[source.labels[twin]]!r}"
                exclude = source.given[row] != TEST and row not in gone
                found.append(_make(source, part, row, "near_conflict", reason, pair.likeness, exclude, source.title(twin)))
                gone.add(row)
            continue
        # the copy nearer to training goes; in one part, the later
        row, twin = (b, a) if part[a] == part[b] else (a, b) if part[a] < part[b] else (b, a)
        kind = "near_duplicate" if part[a] == part[b] else "leak"
        reason = f"{like} {source.title(twin)!r} in {PARTS[part[twin]]}"
        exclude = row not in gone and twin not in gone and source.given[row] != TEST
        found.append(_make(source, part, row, kind, reason, pair.likeness, exclude, source.title(twin)))
        if exclude:
            gone.add(row)
    return found


def _looks(source: Source, part: NDArray[np.int8], measures: Measures) -> list[Finding]:
    found = []
    for row in range(len(source)):
        light, spread, blur = (float(values[row]) for values in (measures.light, measures.spread, measures.blur))
        if spread < BLANK:
            reason = f"96 of 100 pixels lie within {spread:.1%} of the grey scale"
            found.append(_make(source, part, row, "blank", reason, spread, source.given[row] != TEST))
        elif light < DARK:
            found.append(_make(source, part, row, "dark", f"mean light {light:.1%} of the scale", light))
        elif light > BRIGHT:
            found.append(_make(source, part, row, "bright", f"mean light {light:.1%} of the scale", light))
        elif blur > BLURRED:
            found.append(_make(source, part, row, "blurred", f"blur effect {blur:.2f} of 1", blur))
    return sorted(found, key=lambda finding: -finding.score if finding.kind in ("blurred", "bright") else finding.score)


def _odd(source: Source, part: NDArray[np.int8]) -> list[Finding]:
    extents = source.sizes().astype(np.float64)
    sides = np.sqrt(extents.prod(axis=1))
    aspect = np.log(extents[:, 1] / extents[:, 0])
    usual, usual_aspect = float(np.median(sides)), float(np.median(np.abs(aspect)))
    colour = sum(mode == "RGB" for mode in source.modes) > len(source) / 2
    found = []
    for row in range(len(source)):
        height, width = (int(value) for value in extents[row])
        if sides[row] * ODD_SIZE < usual or abs(aspect[row]) > usual_aspect + np.log(2.5):
            found.append(_make(source, part, row, "size", f"{width} x {height} pixels", sides[row]))
        elif colour and source.modes[row] not in ("RGB", "P", "CMYK", "YCbCr"):
            words = {"L": "grey", "1": "black and white", "RGBA": "transparent", "LA": "grey and transparent"}
            found.append(_make(source, part, row, "mode", f"{words.get(source.modes[row], source.modes[row])} pixels", 0.0))
    return found


def _doubtful(source: Source, part: NDArray[np.int8], features: NDArray[np.float32]) -> list[Finding]:
    counts = np.bincount(source.labels, minlength=len(source.classes))
    if len(source.classes) < 2 or not len(counts) or counts.min() < LEAST_PER_CLASS:
        return []
    beliefs = label_beliefs(features, source.labels, len(source.classes))
    found = []
    for row in suspicious(beliefs, source.labels):
        other = int(beliefs[row].argmax())
        own = float(beliefs[row, source.labels[row]])
        reason = (
            f"looks like {source.classes[other]!r} ({beliefs[row, other]:.0%}), labelled {source.classes[source.labels[row]]!r} ({own:.1%})"
        )
        found.append(_make(source, part, int(row), "label", reason, own))
    return found


def exclusion_list(source: str, findings: Sequence[Finding], given_test: bool) -> str:
    """Return the list as text: image, kind and reason, tab-separated; lines that begin with # are for a person to decide on.

    With ``given_test``, test images that have a twin elsewhere follow as ``leaked``: they are not left out, but scored apart.
    """
    lines = [
        f"# Images of {source} to leave out: train --exclude THIS_FILE. One a line: name, kind, reason.",
        "# Take the mark # off a line to leave that image out too; add it to keep one.",
    ]
    named: set[str] = set()
    for finding in findings:
        mark = "" if finding.exclude and finding.name not in named else "# "
        if not mark:
            named.add(finding.name)
        lines.append(f"{mark}{finding.name}\t{finding.kind}\t{finding.reason}")
    if given_test:
        leaked = {finding.other: finding.name for finding in findings if finding.kind == "leak"}
        lines += [f"{name}\t{LEAKED}\tthe test image that {twin!r} gives away" for name, twin in sorted(leaked.items())]
    return "\n".join(lines) + "\n"


def read_list(path: str | Path) -> Mapping[str, tuple[str, str]]:
    """Read a list of images: name -> (kind, reason); kind and reason may be left away, lines with # and empty ones are skipped.

    Raises: DataError when it cannot be read as text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {str(path)!r} cannot be read ({error}); it holds one image name a line") from error
    named = {}
    for line in text.splitlines():
        name, _, rest = line.partition("\t")
        if name.strip() and not name.startswith("#"):
            kind, _, reason = rest.partition("\t")
            named[name.strip()] = (kind.strip() or "excluded", reason.strip() or "on the list")
    return named

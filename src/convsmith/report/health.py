"""The page of ``convsmith check``: the state of the images, with pictures of what is doubtful."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.report import units
from convsmith.report.charts import share_bar
from convsmith.report.mistakes import COARSE_PX, thumbnail
from convsmith.report.page import fill
from convsmith.report.sections.images import balance, by_kind

MOST_SHOWN = 36
SPLITS = ("train", "val", "test")

Picture = Callable[[str], NDArray[np.uint8]]


def render_health(health: Mapping[str, Any], kinds: Mapping[str, str], picture: Picture, listed: str = "") -> str:
    """Return the page of what ``Health.to_dict`` says. ``kinds``: kind of finding -> what it means, in the page's order.

    ``picture``: the pixels of an image by its name, asked for at most 36 images of a kind and what they resemble.
    ``listed``: the path of the list of images to leave out, when one was written.
    """
    findings: Sequence[Mapping[str, Any]] = health["findings"] or ()
    shown: dict[str, dict[str, Any]] = {}

    def seen(name: str) -> dict[str, Any]:
        if name not in shown:
            shown[name] = _picture(picture(name))
        return shown[name]

    groups = [_group(kind, meaning, [f for f in findings if f["kind"] == kind], seen) for kind, meaning in kinds.items()]
    return fill(
        "health.html",
        health=health,
        figures=_figures(health, findings),
        groups=[group for group in groups if group["count"]],
        clean=[meaning for kind, meaning in kinds.items() if not any(f["kind"] == kind for f in findings)],
        rows=_rows(health),
        splits=[name for name in SPLITS if name in health["counts"]],
        balance=balance([sum(counts) for counts in zip(*health["counts"].values(), strict=True)]) if health["counts"] else "",
        problems=by_kind(health["problems"]),
        notes=[note[:1].upper() + note[1:] for note in health["notes"]],
        listed=listed,
        excluded=len({f["name"] for f in findings if f["exclude"]}),
        pairs=("leak", "near_conflict", "near_duplicate"),
    )


def _figures(health: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    leaks = len({f["name"] for f in findings if f["kind"] == "leak"})
    doubted = sum(f["kind"] == "label" for f in findings)
    alike = len(health["near"] or ())
    return [
        {"name": "Usable images", "value": units.count(health["images"]), "note": f"{len(health['classes'])} classes"},
        {"name": "Left out", "value": units.count(health["left_out"]), "note": "cannot be used"},
        {"name": "Pairs that look alike", "value": units.count(alike), "note": f"{leaks} across the parts"},
        {"name": "Suspicious labels", "value": units.count(doubted), "note": "worth a look"},
        {"name": "Largest to smallest class", "value": f"{health['imbalance']:g} : 1", "note": "images"},
    ]


def _group(kind: str, meaning: str, findings: Sequence[Mapping[str, Any]], seen: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    cards = []
    for finding in findings[:MOST_SHOWN]:
        pictures = [{"name": finding["name"], **seen(finding["name"])}]
        if finding["other"]:
            pictures.append({"name": finding["other"], **seen(finding["other"])})
        cards.append({**finding, "pictures": pictures, "short": finding["name"].rpartition("/")[2]})
    return {
        "kind": kind,
        "title": meaning[:1].upper() + meaning[1:],
        "count": len(findings),
        "cards": cards,
        "more": max(0, len(findings) - MOST_SHOWN),
    }


def _picture(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(thumbnail(pixels)).decode("ascii")
    return {"uri": uri, "coarse": max(pixels.shape[:2]) <= COARSE_PX}


def _rows(health: Mapping[str, Any]) -> list[dict[str, Any]]:
    counts = [health["counts"][name] for name in SPLITS if name in health["counts"]]
    most = max((sum(row) for row in zip(*counts, strict=True)), default=0)
    return [
        {
            "name": name,
            "counts": [units.count(value) for value in row],
            "total": units.count(sum(row)),
            "bar": share_bar([value / max(most, 1) for value in row]),
        }
        for name, row in zip(health["classes"], zip(*counts, strict=True), strict=True)
    ]

"""The worst mistakes as pictures, kept in the run folder so that the page can be made again without the data."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convsmith.analysis import Evaluation
from convsmith.report.source import Source
from convsmith.runs.files import write_bytes, write_json, writing

FOLDER = "mistakes"
SIDE_PX = 96
COARSE_PX = 32
MOST = 25


def save_mistakes(
    folder: str | Path, evaluation: Evaluation, image: Callable[[int], NDArray[np.uint8]], names: Sequence[str] | None = None
) -> Path:
    """Write the worst mistakes as small PNG files with ``mistakes.json`` into ``folder/mistakes`` and return that folder.

    ``image``: uint8 ``(height, width, channels)`` of a test image by its index; ``names``: of the test images in order.
    Files of an earlier call are replaced.
    """
    target = Path(folder) / FOLDER
    with writing(target):
        target.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for rank, mistake in enumerate(evaluation.mistakes[:MOST]):
        file = f"{rank:02d}.png"
        write_bytes(target / file, thumbnail(image(mistake.index)))
        rows.append(
            {
                "file": file,
                "index": mistake.index,
                "name": names[mistake.index] if names is not None else f"test image {mistake.index}",
                "true": evaluation.classes[mistake.true],
                "predicted": evaluation.classes[mistake.predicted],
                "confidence": mistake.confidence,
            }
        )
    write_json(target / "mistakes.json", rows)
    return target


def thumbnail(x_hwc: NDArray[np.uint8]) -> bytes:
    """Return a PNG whose longer side is at most 96 pixels; smaller images stay as they are."""
    picture = Image.fromarray(x_hwc[:, :, 0] if x_hwc.shape[2] == 1 else x_hwc)
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pictures(source: Source) -> list[dict[str, Any]]:
    """Return the mistakes of a run with their picture as a data URI, ``""`` where the file is gone.

    ``coarse``: so few pixels that each is better shown as a square than smoothed away. Without a mistakes folder the evaluation's own
    list is used, with pictures if the source can give them.
    """
    stored = source.document(f"{FOLDER}/mistakes.json")
    if stored is not None:
        folder = source.run.folder / FOLDER
        # only the name of the file counts: a changed list must not reach outside the folder
        return [{**row, **_picture(_read(folder / Path(str(row["file"])).name))} for row in stored[:MOST]]
    evaluation = source.evaluation()
    if evaluation is None:
        return []
    return [
        {
            "name": f"test image {mistake.index}",
            "true": evaluation.classes[mistake.true],
            "predicted": evaluation.classes[mistake.predicted],
            "confidence": mistake.confidence,
            **_picture(source.thumbnails(mistake.index) if source.thumbnails else b""),
        }
        for mistake in evaluation.mistakes[:MOST]
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _picture(png: bytes) -> dict[str, Any]:
    # a PNG file holds its width in bytes 16 to 19 (W3C, Portable Network Graphics, 11.2.2)
    uri = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" if png else ""
    return {"uri": uri, "coarse": int.from_bytes(png[16:20], "big") <= COARSE_PX}

"""Name what is on images, with a run or an exported file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import DataError, UsageError
from convsmith.jobs.settings import Engine, Settings, positional
from convsmith.jobs.text import percent, printable, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}


class Config(Settings):
    """Which network, which images."""

    run: str = positional("Network: a run (its folder, its name, or 'last') or an exported .onnx or .program file")
    images: tuple[str, ...] = positional("Images and folders of images", default=())
    top: int = Field(5, ge=1, description="Classes to name for each image")
    engine: Engine = Field("auto", description="What computes: torch for a run, for a file its own runtime, by default")
    threads: int = Field(0, ge=0, description="Processor threads; 0 takes all")
    batch: int = Field(16, ge=1, description="Images at once")
    csv: Path | None = Field(None, description="CSV file to write")
    overwrite: bool = Field(False, description="Replace the CSV file when it exists")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the best classes of every image; ``errors`` names those that cannot be read.

    ``sure`` is False where the best score is below the network's threshold, so that no class should be named.

    Raises: UsageError without images; DataError when none can be read.
    """
    import numpy as np

    from convsmith.jobs import classifier

    if config.csv and config.csv.exists() and not config.overwrite:
        raise UsageError(f"{config.csv} exists; give another --csv, or --overwrite")
    paths = files(config.images)
    network = classifier.open_network(config.run, config.engine, config.threads or None)
    errors: list[str] = []
    images = _read(paths, errors, record)
    rows: list[dict[str, Any]] = []
    read: list[str] = []
    scores = network.scores((_noted(read, name, image) for name, image in images), config.batch)
    for name, row in zip(read, scores, strict=True):
        best = np.argsort(-row, kind="stable")[: config.top]
        answer = [{"class": network.classes[k], "score": float(row[k])} for k in best]
        rows.append({"image": name, "sure": bool(row[best[0]] >= network.confidence.threshold), "best": answer})
    if not rows:
        raise DataError("\n".join(errors))
    if config.csv:
        runs.write_bytes(config.csv, _csv(rows).encode("utf-8", "backslashreplace"))
    confidence = vars(network.confidence)
    return {
        "network": network.name,
        "engine": network.engine,
        "confidence": confidence,
        "predictions": rows,
        "errors": errors,
        "csv": config.csv,
    }


def files(given: Sequence[str]) -> list[Path]:
    """Return the image files of files and folders, those of a folder by name; `UsageError` when there are none."""
    found: list[Path] = []
    for item in given:
        path = Path(item).expanduser()
        if path.is_dir():
            found += _walk(path)
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"there is no image {item!r}")
    if not found:
        what = f"no image in {', '.join(map(repr, given))}" if given else "no image given"
        raise UsageError(f"{what}; name image files or folders of {', '.join(sorted(SUFFIXES))} files")
    return found


def _walk(folder: Path) -> list[Path]:
    inside = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return sorted(path for path in inside if path.suffix.lower() in SUFFIXES)


def _read(paths: Sequence[Path], errors: list[str], record: runs.Listener) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    from convsmith import data

    for done, path in enumerate(paths, 1):
        try:
            yield str(path), data.read_image(path)
        except DataError as error:
            errors.append(printable(error))
        record.progress("predict", done, len(paths))


def _noted(read: list[str], name: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    read.append(name)
    return image


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    most = max(len(row["best"]) for row in rows)
    writer.writerow(["image", *(f"{what}{rank}" for rank in range(1, most + 1) for what in ("class", "score")), "sure"])
    for row in rows:
        cells = [cell for best in row["best"] for cell in (best["class"], f"{best['score']:.6f}")]
        writer.writerow([row["image"], *cells, int(row["sure"])])
    return buffer.getvalue()


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = []
    for row in result["predictions"]:
        first, *others = row["best"]
        rest = ", ".join(f"{best['class']} {percent(best['score'])}" for best in others)
        rows.append([row["image"], first["class"] if row["sure"] else f"not sure: {first['class']}", percent(first["score"]), rest])
    text = table(["image", "class", "score", "next"], rows)
    return f"{text}\n\nwritten to {printable(result['csv'])}" if result["csv"] else text

"""Name what is on images, with a run or an exported file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import DataError, UsageError
from convsmith.jobs.settings import Engine, Settings, positional
from convsmith.jobs.text import percent, printable, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.jobs.classifier import Network

LISTS = {".txt", ".csv", ".tsv"}
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}


class Config(Settings):
    """Which network, which images or videos, and what is written."""

    run: str = positional("Network: a run (its folder, its name, or 'last') or an exported file")
    images: tuple[str, ...] = positional(
        "Images, folders of images, text files that list images, video files, cameras (/dev/video0), streams (rtsp://...)", default=()
    )
    top: int = Field(5, ge=1, description="Classes to name for each image")
    engine: Engine = Field("auto", description="What computes: torch for a run, for a file its own runtime, by default")
    checkpoint: str = Field("", description="Weights of a run to answer with: last, best or snapshot-01; by default the best, as tested")
    threads: int = Field(0, ge=0, description="Processor threads; 0 takes all")
    batch: int = Field(16, ge=1, description="Images or frames at once")
    drop: Literal["auto", "never", "late"] = Field(
        "auto",
        description="Frames that come while others are looked at: late ones are dropped, or none; auto drops of live video only",
    )
    seconds: float = Field(0.0, ge=0, description="Stop a video after so many seconds; 0 goes on to its end, or to Ctrl-C")
    overlay: Path | None = Field(None, description="Video file to write, with the answers on the frames; of one video")
    jsonl: Path | None = Field(None, description="File to write a line of JSON to for every image and frame, as they are answered")
    csv: Path | None = Field(None, description="CSV file to write, of images")
    overwrite: bool = Field(False, description="Replace files that exist")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the best classes of every image, and of every video what was seen and how fast; ``errors`` names what cannot be read.

    ``sure`` is False where the best score is below the network's threshold, so that no class should be named.

    Raises: UsageError without images; DataError when none can be read.
    """
    from convsmith.data.video import is_video
    from convsmith.jobs import classifier, footage

    for flag in ("csv", "jsonl", "overlay"):
        path = getattr(config, flag)
        if path and path.exists() and not config.overwrite:
            raise UsageError(f"{path} exists; give another --{flag}, or --overwrite")
    videos = [item for item in config.images if is_video(item)]
    stills = [item for item in config.images if item not in videos]
    if config.overlay and len(videos) != 1:
        raise UsageError(f"--overlay writes one video of one video, and {len(videos)} are given")
    paths = files(stills) if stills or not videos else []
    network = classifier.open_network(config.run, config.engine, config.threads or None, config.checkpoint)
    errors: list[str] = []
    with footage.lines_to(config.jsonl) as tell:
        rows = _stills(config, network, paths, errors, record, tell)
        watched = [footage.watch(footage.Asked(item, **_of_video(config)), network, record, tell, errors) for item in videos]
    seen = [item for item in watched if item is not None]
    if not rows and not seen:
        raise DataError("\n".join(errors))
    if config.csv:
        runs.write_bytes(config.csv, _csv(rows).encode("utf-8", "backslashreplace"))
    about = {"network": network.name, "engine": network.engine, "confidence": vars(network.confidence)}
    written = {"csv": config.csv, "jsonl": config.jsonl, "overlay": config.overlay}
    return about | {"predictions": rows, "videos": seen, "errors": errors} | written


def _of_video(config: Config) -> dict[str, Any]:
    return config.model_dump(include={"batch", "drop", "seconds", "overlay", "top"})


def _stills(
    config: Config, network: Network, paths: Sequence[Path], errors: list[str], record: runs.Listener, tell: Callable[[Any], None]
) -> list[dict[str, Any]]:
    """Return a row for each image that can be read."""
    rows: list[dict[str, Any]] = []
    read: list[str] = []
    scores: Any = network.scores((_noted(read, name, image) for name, image in _read(paths, errors, record)), config.batch) if paths else []
    for name, row in zip(read, scores, strict=True):
        rows.append({"image": name} | network.named(row, config.top))
        tell(rows[-1])
    return rows


def files(given: Sequence[str]) -> list[Path]:
    """Return the image files of files, folders and lists of files; those of a folder by name, those of a list in its order.

    Raises: UsageError when there are none, or a list names one that is not there.
    """
    found: list[Path] = []
    for item in given:
        path = Path(item).expanduser()
        if path.is_dir():
            found += _walk(path)
        elif path.suffix.lower() in LISTS and path.is_file():
            found += _listed(path)
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"there is no image {item!r}")
    if not found:
        what = f"no image in {', '.join(map(repr, given))}" if given else "no image given"
        raise UsageError(f"{what}; name image files or folders of {', '.join(sorted(SUFFIXES))} files")
    return found


def _listed(path: Path) -> list[Path]:
    """Return the images that a text file names, one a line, relative to it; what follows a tab or a comma, such as a label, is left."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list {str(path)!r} cannot be read: {error}") from None
    named = [
        (number, path.parent / re.split(r"[\t,]", line, maxsplit=1)[0].strip()) for number, line in enumerate(lines, 1) if line.strip()
    ]
    for number, image in named:
        if not image.is_file():
            raise UsageError(f"line {number} of {str(path)!r} names {str(image)!r}, which is not there")
    return [image for _, image in named]


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
    parts = [table(["image", "class", "score", "next"], rows)] if rows else []
    if result["videos"]:
        parts.append(
            table(["video", "frames", "dropped", "frames/s", "ms to an answer", "seen"], [_video(item) for item in result["videos"]])
        )
    parts += [f"written to {printable(result[key])}" for key in ("csv", "jsonl", "overlay") if result[key]]
    return "\n\n".join(parts)


def _video(found: Mapping[str, Any]) -> list[Any]:
    seen = ", ".join(f"{name} {percent(share)}" for name, share in list(found["seen"].items())[:5])
    speed, delay = f"{found['frames_per_s']:.1f}", f"{1e3 * found['median_delay_s']:.1f}"
    return [found["video"], found["frames"], found["dropped"], speed, delay, seen]

"""Put images into one file, or into shards, at the size that training needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import printable, size, table


class Config(Settings):
    """Which images, where to, and how they are stored."""

    data: str = positional("Images, as for train")
    to: Path | None = Field(None, description="File (or for shards, new folder) to write; nothing that exists is replaced")
    layout: Literal["pack", "webdataset"] = Field("pack", description="One memory-mapped file, or WebDataset tar shards")
    encoding: Literal["pixels", "jpeg"] = Field(
        "pixels", description="Decoded, the fastest to read, or JPEG, a tenth of the space (shards: always)"
    )
    short_side: int | None = Field(None, ge=1, description="Scale larger images down to this short side; 256 suits an input of 224")
    quality: int = Field(90, ge=1, le=100, description="Quality of images that must be compressed anew")
    per_shard: int = Field(1000, ge=1, description="Images in a shard")
    exclude: Path | None = Field(None, description="List of images to leave out, as `convsmith check --list` writes it")
    workers: int = Field(0, ge=0, description="Processes that look at the files")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Write the usable images of a source; its own files stay as they are."""
    from convsmith.data.exclusion import without
    from convsmith.data.opening import read
    from convsmith.data.pack import write_pack
    from convsmith.data.source import without_empty_classes
    from convsmith.data.webdataset import write_shards

    if config.to is None:
        raise UsageError("pack needs a place to write to: --to FILE.pack, or --layout webdataset --to FOLDER")
    found = read(config.data, workers=config.workers or None, progress=lambda done, total: record.progress("open", done, total))
    source = without_empty_classes(without(found, config.exclude))
    if not len(source):
        raise UsageError(f"{config.data} has no usable image to pack; `convsmith check` says why")

    def progress(done: int, total: int) -> None:
        record.progress("pack", done, total)

    if config.layout == "pack":
        total = write_pack(
            source, config.to, short_side=config.short_side, encoding=config.encoding, quality=config.quality, progress=progress
        )
        files = 1
    else:
        shards = write_shards(
            source, config.to, per_shard=config.per_shard, short_side=config.short_side, quality=config.quality, progress=progress
        )
        total, files = sum(shard.stat().st_size for shard in shards), len(shards)
    return {
        "to": str(config.to),
        "images": len(source),
        "classes": len(source.classes),
        "left_out": sum(problem.left_out for problem in source.problems),
        "bytes": total,
        "files": files,
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = [
        ["images", f"{result['images']:,} of {result['classes']} classes"],
        ["left out", f"{result['left_out']:,}"],
        ["written", f"{printable(result['to'])}, {result['files']} file{'' if result['files'] == 1 else 's'}, {size(result['bytes'])}"],
    ]
    return table(["what", "result"], rows) + f"\n\nIt opens like any images: convsmith train {printable(result['to'])}"

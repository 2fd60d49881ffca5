"""Look at the images before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import transfer
from convsmith.jobs.settings import Images
from convsmith.jobs.text import printable, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.data import Health


class Config(Images):
    """What to look at, and what to write about it."""

    show: int = Field(20, ge=0, description="Problems to list; all of them are in --json")
    page: Path | None = Field(None, description="HTML file to write, with pictures; one that exists is not replaced")
    list: Path | None = Field(None, description="File for the list of images to leave out; one that exists is not replaced")
    limit: int = Field(20_000, ge=0, description="Most images to compare with each other and to judge one by one; 0 leaves that out")
    weights: Path | None = Field(None, description="Pretrained weights to judge labels by: a file, torchvision/NAME or timm/NAME")
    model: str = Field("auto", description="Architecture of the weights, or 'auto'")
    convention: transfer.ConventionName = Field("auto", description="How the weights want their input")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Look at every image and return what is there, what is left out and why. No file of the images is changed.

    ``errors``: why nothing can be trained on these images; empty when something can.
    """
    from convsmith import data

    for path, flag in ((config.page, "--page"), (config.list, "--list")):
        if path is not None and path.exists():
            raise UsageError(f"{str(path)!r} exists already; name another file with {flag}, or remove it")
    health = data.check(
        config.data,
        val=config.val,
        test=config.test,
        seed=config.split_seed,
        workers=config.workers or None,
        progress=lambda done, total: record.progress("check", done, total),
        exclude=config.exclude,
        limit=config.limit,
        features=None if config.weights is None else _features(config, record),
    )
    if config.list is not None:
        text = data.exclusion_list(health.source, health.findings or (), health.given_test)
        runs.files.write_bytes(config.list, text.encode("utf-8", "surrogateescape"))
    if config.page is not None:
        _write_page(config.page, health, str(config.list or ""))
    return health.to_dict() | {"show": config.show, "page": _text(config.page), "list": _text(config.list)}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _features(config: Config, record: runs.Listener) -> dict[str, NDArray[np.float32]]:
    """Return what the last stage of a pretrained network makes of each image, by name."""
    from convsmith import data
    from convsmith.interop import pretrained
    from convsmith.training import features

    assert config.weights is not None
    dataset = data.open(config.data, workers=config.workers or None, trainable=False, exclude=config.exclude)
    source = transfer.open_source(config.weights, config.model, config.convention, dataset)
    if source is None:
        raise UsageError(f"{config.weights} belongs to a network of Convsmith's own; check reads networks pretrained on colour photos")
    preprocess = source.convention.preprocess(None)
    network = pretrained.load(source, input_size=(preprocess.height, preprocess.width), classes=source.classes or 2)
    last = features.stages_of(network, preprocess)[-1]
    found: dict[str, NDArray[np.float32]] = {}
    for number, split in enumerate(dataset.splits.values()):
        record.progress("features", number, len(dataset.splits))
        rows = features.extract(network, split, preprocess, (last,), workers=config.workers).images[last]
        found |= {split.name(index): row for index, row in enumerate(rows)}
    record.progress("features", len(dataset.splits), len(dataset.splits))
    return found


def _write_page(path: Path, health: Health, listed: str) -> None:
    from convsmith.data.findings import KINDS
    from convsmith.report import render_health

    pictures = health.pictures
    rows = {} if pictures is None else {pictures.name(index): index for index in range(len(pictures))}

    def picture(name: str) -> NDArray[np.uint8]:
        assert pictures is not None
        return pictures.image(rows[name])

    runs.files.write_bytes(path, render_health(health.to_dict(), KINDS, picture, listed).encode("utf-8", "replace"))


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    colour = "grey" if result["channels"] == 1 else "colour"
    parts = [f"{printable(result['name'])}: {result['images']:,} usable {colour} images in {len(result['classes'])} classes"]
    if result["sizes"]:
        parts.append(table(["size", "height", "width"], [[name, *size] for name, size in result["sizes"].items()]))
    parts.append(_counts(result))
    parts += [f"Note: {printable(note)}" for note in result["notes"]]
    parts.append(_findings(result))
    parts.append(_problems(result))
    written = [
        f"{what}: {printable(result[key])}"
        for what, key in (("Page with pictures", "page"), ("Images to leave out", "list"))
        if result[key]
    ]
    if result["list"]:
        written.append(f"Train without them: convsmith train {printable(result['source'])} --exclude {printable(result['list'])}")
    parts.append("\n".join(written))
    return "\n\n".join(part for part in parts if part)


def _counts(result: Mapping[str, Any]) -> str:
    counts: Mapping[str, list[int]] = result["counts"]
    if not counts:
        return ""
    rows = [
        [name, *(counts[split][index] for split in counts), sum(counts[split][index] for split in counts)]
        for index, name in enumerate(result["classes"])
    ]
    rows.append(["all", *(sum(column) for column in counts.values()), sum(map(sum, counts.values()))])
    return table(["class", *counts, "all"], rows)


def _findings(result: Mapping[str, Any]) -> str:
    """Return one line for each kind of finding with its worst example."""
    findings = result["findings"]
    if findings is None:
        return "The images were not compared and judged one by one: there are none, or more than --limit." if result["images"] else ""
    if not findings:
        return ""
    counts = Counter(finding["kind"] for finding in findings)
    first = {finding["kind"]: finding for finding in reversed(findings)}
    rows = [[kind.replace("_", " "), count, first[kind]["name"], first[kind]["reason"]] for kind, count in counts.items()]
    hint = (
        ""
        if result["page"]
        else "\n\nTo see them: --page check.html; to leave them out: --list exclude.txt, then train --exclude exclude.txt"
    )
    return "Worth a look\n\n" + table(["what", "images", "the first", "why"], rows) + hint


def _problems(result: Mapping[str, Any]) -> str:
    problems = result["problems"]
    if not problems:
        return "Every file could be read." if result["findings"] else "No problem was found."
    kinds = ", ".join(f"{count} {kind}" for kind, count in result["kinds"].items())
    shown = problems[: result["show"]]
    listed = table(["image", "kind", "reason"], [[item["name"], item["kind"], item["reason"]] for item in shown])
    more = f"\n... and {len(problems) - len(shown)} more (--show {len(problems)})" if len(problems) > len(shown) else ""
    out = result["left_out"]
    what = "1 file or image is" if out == 1 else f"{out:,} files or images are"
    return f"{what} left out; to know ({kinds}):\n\n{listed}{more}"

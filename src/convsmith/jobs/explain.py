"""What one image does in a trained network: its activations, and where in the image the answer comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError, near
from convsmith.jobs import subject
from convsmith.jobs.inspect import new_page
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, printable, table


class Config(Settings):
    """Which network, which image, and what is asked of them."""

    network: str = positional("Network: a run (its folder, its name, or 'last') or an exported .onnx file")
    image: Path = positional("Image file")
    target: str | None = Field(None, description="Class to explain, by its name; by default the likeliest")
    layer: str | None = Field(None, description="Layer whose maps Grad-CAM weighs; by default the last with rows and columns")
    checkpoint: str = Field("", description="Weights of a run to look at: last, best or snapshot-01; by default the best, as tested")
    maps: int = Field(16, ge=1, le=256, description="Activation maps of each layer on the page")
    page: Path | None = Field(None, description="HTML file to write; by default explain-IMAGE.html here. One that exists is not replaced")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Write the page and return the answer with the statistics of every layer.

    Raises: UsageError for a class or layer that is not there; DataError for an image that cannot be read.
    """
    from convsmith import data, report, training

    page = config.page or Path(f"explain-{config.image.stem}.html")
    new_page(page)
    looked = subject.open_subject(config.network, subject.Wanted(), config.checkpoint)
    if looked.preprocess is None or not looked.classes:
        raise UsageError(f"{config.network!r} does not say how it wants images; give a run or a file that `convsmith export` wrote")
    if config.target is not None and config.target not in looked.classes:
        raise UsageError(f"there is no class {config.target!r}.{near(config.target, looked.classes)} There are {', '.join(looked.classes)}")
    target = None if config.target is None else looked.classes.index(config.target)
    record.progress("explain", 0, 1)
    image = data.read_image(config.image)
    seen = training.explain(looked.module(), image, looked.preprocess, target=target, layer=config.layer, maps=config.maps)
    name = Path(config.network).name if looked.trained else config.network
    text = report.render_network(name, None, seen=seen, classes=looked.classes, picture=config.image.name)
    runs.files.write_bytes(page, text.encode("utf-8"))
    record.progress("explain", 1, 1)
    order = sorted(range(len(looked.classes)), key=lambda index: -seen.probabilities[index])
    return {
        "image": str(config.image),
        "best": [{"class": looked.classes[index], "score": float(seen.probabilities[index])} for index in order[:5]],
        "target": looked.classes[seen.target],
        "heat_layer": seen.heat_layer,
        "layers": [layer.to_dict() for layer in seen.activations],
        "page": str(page),
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    best = ", ".join(f"{row['class']} {percent(row['score'])}" for row in result["best"])
    rows = [
        [row["name"], row["kind"], "x".join(map(str, row["shape"])), row["mean"], row["std"], row["minimum"], row["maximum"],
         f"{100 * row['zeros']:.0f} %", row["silent"] if len(row["shape"]) == 3 else None]
        for row in result["layers"]
    ]  # fmt: skip
    shown = table(["layer", "kind", "output", "mean", "std", "least", "largest", "zeros", "silent channels"], rows)
    told = f"{printable(result['image'])}: {best}\nGrad-CAM of {printable(result['target'])} at {result['heat_layer']}"
    return f"{shown}\n\n{told}\nPage: {printable(result['page'])}"

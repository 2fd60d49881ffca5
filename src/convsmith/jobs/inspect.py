"""What a network costs, layer by layer: a run, an ONNX file, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError, near
from convsmith.jobs import trained
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import table

if TYPE_CHECKING:
    from convsmith.graph.network import Graph


class Config(Settings):
    """Which network, and for what input when only its name is given."""

    network: str = positional("Network: a run, an .onnx file, or a name such as resnet18 or timm/NAME; without one, the names", default="")
    batch: int = Field(1, ge=1, description="Images at once, for the sizes of activations")
    size: int | None = Field(None, ge=1, description="Side of the input in pixels, for a name; by default its usual one")
    channels: int | None = Field(None, ge=1, description="Channels of the input, for a name; by default its usual ones")
    classes: int | None = Field(None, ge=1, description="Classes, for a name; by default its usual ones")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the cost report of the network, or the names of the zoo when none is given."""
    from convsmith import analysis, models

    if not config.network:
        return {"names": models.names()}
    report = analysis.analyse(_graph(config), config.batch)
    return report.to_dict() | {"text": report.table()}


def _graph(config: Config) -> Graph:
    from convsmith import models

    if config.network.endswith(".onnx"):
        return _file_graph(config.network)
    is_run = (Path(config.network).expanduser() / "run.json").exists()
    if not is_run and (config.network in models.ZOO or config.network.startswith("timm/")):
        return _zoo_graph(config)
    return trained.load(_run(config.network)).graph


def _file_graph(path: str) -> Graph:
    """Read an ONNX file; of one that `export` wrote, the network behind its preprocessing."""
    from convsmith import targets
    from convsmith.interop import onnx

    alone = targets.network_of(onnx.load(path))
    return onnx.read(path if alone is None else alone.SerializeToString())


def _run(name: str) -> runs.Run:
    """Open a run; when there is none of the name, say so with the names of the zoo as well."""
    from convsmith import models

    try:
        return runs.open(runs.find(name, runs.root()))
    except UsageError as error:
        if Path(name).exists():
            raise
        raise UsageError(f"{name!r} is neither a run, an .onnx file nor a model.{near(name, models.ZOO)} {error}") from None


def _zoo_graph(config: Config) -> Graph:
    import torch

    from convsmith import models
    from convsmith.interop import pytorch

    entry = models.ZOO.get(config.network)
    usual = entry.input if entry else (3, 224, 224)
    channels = config.channels or usual[0]
    height, width = (config.size, config.size) if config.size else usual[1:]
    torch.manual_seed(0)
    classes = config.classes or (entry.classes if entry else 1000)
    module = models.load(config.network, classes=classes, in_channels=channels, input_size=(height, width))
    return pytorch.read(module.eval(), (1, channels, height, width))


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    if "names" in result:
        return table(["family", "models"], [[family, ", ".join(names)] for family, names in result["names"].items()])
    return str(result["text"])

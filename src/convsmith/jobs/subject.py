"""The network that a verb looks at: a run, an ONNX file, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convsmith import runs
from convsmith.errors import UsageError, near
from convsmith.jobs import trained

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.preprocess import Preprocess
    from convsmith.graph.network import Graph


@dataclass(frozen=True)
class Subject:
    """A network as data and as a torch module, made when it is asked for; ``preprocess`` and ``classes`` where they are known."""

    graph: Graph
    module: Callable[[], nn.Module]
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] = ()
    trained: bool = True


@dataclass(frozen=True)
class Wanted:
    """For what input a name of the zoo is built; None is its usual one."""

    size: int | None = None
    channels: int | None = None
    classes: int | None = None


def open_subject(name: str, wanted: Wanted, checkpoint: str = "") -> Subject:
    """Open the network of that name; of a run, its best weights or those of a ``checkpoint``.

    Raises: UsageError when it is neither a run, an .onnx file nor a model, or what it is has no such checkpoint.
    """
    from convsmith import models

    is_run = (Path(name).expanduser() / "run.json").exists()
    if name.endswith(".onnx") or (not is_run and (name in models.ZOO or name.startswith("timm/"))):
        if checkpoint:
            raise UsageError(f"--checkpoint chooses among the weights of a run, and {name!r} is none")
        return _of_file(name) if name.endswith(".onnx") else _of_zoo(name, wanted)
    network = trained.load(_run(name), checkpoint)
    return Subject(network.graph, lambda: network.module, network.preprocess, network.classes)


def _of_file(path: str) -> Subject:
    """Read an ONNX file; of one that `export` wrote, the network behind its preprocessing."""
    from convsmith import targets
    from convsmith.interop import onnx, pytorch

    alone = targets.network_of(onnx.load(path))
    graph = onnx.read(path if alone is None else alone.SerializeToString())
    if alone is None:
        return Subject(graph, lambda: pytorch.write(graph))
    session = targets.load(path)
    return Subject(graph, lambda: pytorch.write(graph), session.preprocess, session.labels)


def _run(name: str) -> runs.Run:
    """Open a run; when there is none of the name, say so with the names of the zoo as well."""
    from convsmith import models

    try:
        return runs.open(runs.find(name, runs.root()))
    except UsageError as error:
        if Path(name).exists():
            raise
        raise UsageError(f"{name!r} is neither a run, an .onnx file nor a model.{near(name, models.ZOO)} {error}") from None


def _of_zoo(name: str, wanted: Wanted) -> Subject:
    import torch

    from convsmith import models
    from convsmith.data.preprocess import Preprocess
    from convsmith.interop import pytorch

    entry = models.ZOO.get(name)
    usual = entry.input if entry else (3, 224, 224)
    channels = wanted.channels or usual[0]
    height, width = (wanted.size, wanted.size) if wanted.size else usual[1:]
    torch.manual_seed(0)
    classes = wanted.classes or (entry.classes if entry else 1000)
    module = models.load(name, classes=classes, in_channels=channels, input_size=(height, width)).eval()
    graph = pytorch.read(module, (1, channels, height, width))
    half = (0.5,) * channels
    preprocess = Preprocess(height, width, channels, mean=half, std=half) if channels in (1, 3) else None
    return Subject(graph, lambda: module, preprocess, tuple(map(str, range(classes))), trained=False)

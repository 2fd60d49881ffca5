"""A trained network back from its run folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convsmith import runs
from convsmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convsmith.data.preprocess import Preprocess
    from convsmith.graph.network import Graph
    from convsmith.precision import Plan


NETWORK = "network.safetensors"
"""The graph of a run whose network was made from another run's."""


@dataclass(frozen=True)
class Trained:
    """The network of a run, in evaluation mode, with what it needs to be used. ``stored``: its graph, where the run has one.

    ``module`` of a network of codes computes sums of codes exactly, as the native engine does. ``before_signs``: of a network of signs
    the float graph that it is read from, and the plan that reads it so.
    """

    run: runs.Run
    module: nn.Module
    preprocess: Preprocess
    classes: tuple[str, ...]
    name: str
    stored: Graph | None = field(default=None, repr=False)
    before_signs: tuple[Graph, Plan] | None = field(default=None, repr=False)

    @property
    def has_codes(self) -> bool:
        """Whether the network computes with 8-bit codes."""
        return self.stored is not None and any(node.op == "QuantizeLinear" for node in self.stored)

    @property
    def graph(self) -> Graph:
        """The network as data."""
        from convsmith.interop import pytorch

        if self.stored is not None:
            return self.stored
        return pytorch.read(self.module, (1, self.preprocess.channels, self.preprocess.height, self.preprocess.width))


def kept(run: runs.Run) -> dict[str, float | None]:
    """Return the checkpoints whose weights can be looked at, by name, with the epoch they are of where the run tells it.

    ``last``, ``best`` and ``snapshot-01`` and so on, as far as they are there; none of a network that was made from another run's.
    """
    names = [] if run.has(NETWORK) else sorted(path.stem for path in (run.folder / "checkpoints").glob("[a-z]*.pt"))
    epochs: dict[str, float] = {}
    for event in run.events() if names else ():
        if event.get("kind") == "epoch":
            epochs["last"] = event["epoch"]
        elif event.get("kind") == "snapshot":
            epochs[Path(event["file"]).stem] = event["epoch"]
    return {name: epochs.get(name) for name in names}


def load(run: runs.Run, checkpoint: str = "") -> Trained:
    """Build the network of a run and fill in its weights, or those of one of its checkpoints (``kept``).

    Raises: UsageError when the run has not come to the end of its training, or has no such checkpoint; DataError when its files do not
    fit together.
    """
    from safetensors import SafetensorError

    from convsmith import models

    if checkpoint and checkpoint not in kept(run):
        raise UsageError(f"{run.folder} has no checkpoint {checkpoint!r}; it has {', '.join(kept(run)) or 'none'}")
    if run.has(NETWORK):
        return _stored(run)
    if not checkpoint and not run.has("weights.safetensors"):
        hint = f" `convsmith resume {run.folder}` goes on with it." if run.status in ("stopped", "interrupted", "failed") else ""
        raise UsageError(f"{run.folder} has no trained network: it is {run.status} and has no weights.safetensors.{hint}")
    file = run.folder / (f"checkpoints/{checkpoint}.pt" if checkpoint else "weights.safetensors")
    described = run.read_json("model.json")
    preprocess, classes = preprocess_of(run)
    height, width = described["input_size"]
    module = models.load(
        described["name"],
        classes=len(classes),
        in_channels=described["in_channels"],
        input_size=(height, width),
        **described.get("options", {}),
    )
    try:
        module.load_state_dict(_weights(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{file} does not hold the weights of {described['name']}: {first}") from None
    return with_signs(Trained(run, module.eval(), preprocess, classes, described["name"]))


def _weights(file: Path) -> dict[str, Tensor]:
    """Read the weights a network answers with: those of a checkpoint are the running mean where the training kept one."""
    from safetensors.torch import load_file

    from convsmith.training import checkpoints

    if file.suffix == ".safetensors":
        return load_file(file)
    state = checkpoints.load(file)
    return dict(state.get("ema") or state["model"])


def with_signs(network: Trained) -> Trained:
    """Return the network as its training computed it: of signs, where it was trained under a plan of them."""
    given = network.run.read_json("training.json").get("plan") if network.run.has("training.json") else None
    if given is None:
        return network
    from convsmith.interop import pytorch
    from convsmith.precision import Plan
    from convsmith.precision.binarisation import binarise

    plain = network.graph
    plan = Plan.from_dict(given).last()
    graph = binarise(plain, plan)
    if graph is plain:
        return network
    return dataclasses.replace(network, module=pytorch.write(graph).eval(), stored=graph, before_signs=(plain, plan))


def _stored(run: runs.Run) -> Trained:
    """Return the network of a run that has its graph in a file."""
    from convsmith import compiler
    from convsmith import graph as graphs
    from convsmith.interop import pytorch

    preprocess, classes = preprocess_of(run)
    graph = graphs.load(run.folder / NETWORK)
    codes = any(node.op == "QuantizeLinear" for node in graph)
    module = pytorch.write(compiler.simplify(graph) if codes else graph).eval()
    return Trained(run, module, preprocess, classes, run.read_json("model.json")["name"], graph)


def preprocess_of(run: runs.Run) -> tuple[Preprocess, tuple[str, ...]]:
    """Return the preprocessing of a run and the names of its classes."""
    from convsmith.data.preprocess import Preprocess

    fields = run.read_json("preprocess.json")
    try:
        classes = tuple(fields.pop("classes"))
        return Preprocess.from_dict(fields), classes
    except (KeyError, TypeError) as error:
        raise DataError(f"{run.folder / 'preprocess.json'} is incomplete: {error}") from None


def save_weights(module: nn.Module, record: runs.Record) -> None:
    """Write weights.safetensors, each array contiguous and its own."""
    from safetensors.torch import save

    arrays = {name: array.detach().cpu().contiguous().clone() for name, array in module.state_dict().items()}
    record.write_bytes("weights.safetensors", save(arrays))

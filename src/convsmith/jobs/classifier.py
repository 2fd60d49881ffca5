"""Something that classifies decoded images: a run with torch, or an exported file with its runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convsmith import data, runs
from convsmith.data.dataset import Split
from convsmith.errors import UsageError
from convsmith.jobs import trained

Images = Iterable[NDArray[np.uint8]]


@dataclass(frozen=True)
class Network:
    """``logits``: from decoded images ``(h, w, c)`` of any size and a batch size to float32 ``(n, classes)``."""

    name: str
    classes: tuple[str, ...]
    logits: Callable[[Images, int], NDArray[np.float32]]
    run: runs.Run | None = None

    def scores(self, images: Images, batch: int) -> NDArray[np.float64]:
        """Return the softmax of the logits."""
        logits = self.logits(images, batch).astype(np.float64).reshape(-1, len(self.classes))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def open_network(name: str, engine: str = "torch") -> Network:
    """Open a run (its folder, name or ``last``), computed by torch or natively, or an exported file with its own runtime."""
    if Path(name).suffix in (".onnx", ".xml", ".program"):
        if engine == "native" and Path(name).suffix != ".program":
            raise UsageError(
                f"{name!r} runs in its own runtime; --engine native takes a run, or a file of `convsmith export --target native`"
            )
        return _exported(name)
    network = trained.load(runs.open(runs.find(name, runs.root())))
    return natively(network) if engine == "native" else of_run(network)


def of_run(network: trained.Trained) -> Network:
    """Return a trained network as a classifier."""

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        import torch

        from convsmith.training.scoring import logits_of

        small = (data.resize(image, network.preprocess) for image in images)
        parts = (torch.from_numpy(np.stack(part)) for part in _chunks(small, batch))
        return logits_of(network.module, parts, network.preprocess).numpy()

    return Network(network.name, network.classes, logits, network.run)


def natively(network: trained.Trained) -> Network:
    """Return a trained network, compiled for the native engine, as a classifier."""
    from convsmith import compiler

    program = compiler.build(network.graph)

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        small = (data.resize(image, network.preprocess) for image in images)
        parts = [program(data.normalise(np.stack(part), network.preprocess)) for part in _chunks(small, batch)]
        return np.concatenate(parts) if parts else np.zeros((0, len(network.classes)), np.float32)

    return Network(network.name, network.classes, logits, network.run)


def _exported(name: str) -> Network:
    from convsmith import compiler, targets
    from convsmith.targets.prediction import outputs

    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"there is no file {name!r}; `convsmith export RUN` writes one")
    session = compiler.open_session(path) if path.suffix == ".program" else targets.load(path)

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        parts = [found for _, _, found in outputs(session, images, batch=batch)]
        return np.concatenate(parts) if parts else np.zeros((0, len(session.labels)), np.float32)

    return Network(path.name, session.labels, logits)


def decoded(split: Split) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a split in order."""
    return (split.image(index) for index in range(len(split)))


def _chunks(images: Images, size: int) -> Iterator[list[NDArray[np.uint8]]]:
    source = iter(images)
    while part := list(islice(source, size)):
        yield part

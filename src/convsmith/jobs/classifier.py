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


def open_network(name: str) -> Network:
    """Open a run (its folder, name or ``last``) or an exported file."""
    if Path(name).suffix in (".onnx", ".xml"):
        return _exported(name)
    return of_run(trained.load(runs.open(runs.find(name, runs.root()))))


def of_run(network: trained.Trained) -> Network:
    """Return a trained network as a classifier."""

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        import torch

        from convsmith.training.scoring import logits_of

        small = (data.resize(image, network.preprocess) for image in images)
        parts = (torch.from_numpy(np.stack(part)) for part in _chunks(small, batch))
        return logits_of(network.module, parts, network.preprocess).numpy()

    return Network(network.name, network.classes, logits, network.run)


def _exported(name: str) -> Network:
    from convsmith import targets
    from convsmith.targets.prediction import outputs

    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"there is no file {name!r}; `convsmith export RUN` writes one")
    session = targets.load(path)

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

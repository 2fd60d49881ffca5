"""Something that classifies decoded images: a run with torch or another engine, or an exported file with its runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith import data, runs, targets
from convsmith.data.dataset import Split
from convsmith.errors import UsageError
from convsmith.jobs import trained
from convsmith.jobs.settings import Engine
from convsmith.targets.scores import softmax
from convsmith.targets.sessions import RUNTIME_OF, session_of

Images = Iterable[NDArray[np.uint8]]
OF_RUNS = ("torch", "native", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Network:
    """``logits``: from decoded images ``(h, w, c)`` of any size and a batch size to float32 ``(n, classes)``."""

    name: str
    classes: tuple[str, ...]
    logits: Callable[[Images, int], NDArray[np.float32]]
    run: runs.Run | None = None
    confidence: targets.Confidence = field(default_factory=targets.Confidence)
    engine: str = "torch"

    def scores(self, images: Images, batch: int) -> NDArray[np.float64]:
        """Return the softmax of the logits at the network's temperature."""
        logits = self.logits(images, batch).astype(np.float64).reshape(-1, len(self.classes))
        return softmax(logits, self.confidence.temperature)

    def named(self, scores: NDArray[np.float64], top: int) -> dict[str, Any]:
        """Return the best classes of one image's scores, and whether the first is sure enough to be named."""
        best = np.argsort(-scores, kind="stable")[:top]
        answer = [{"class": self.classes[k], "score": float(scores[k])} for k in best]
        return {"sure": bool(scores[best[0]] >= self.confidence.threshold), "best": answer}


def open_network(name: str, engine: Engine = "auto", threads: int | None = None, checkpoint: str = "") -> Network:
    """Open a run (its folder, name or ``last``) or an exported file; ``auto`` is torch for a run, its own runtime for a file.

    ``checkpoint``: one of the run's in place of its best weights.
    Raises: UsageError for an engine that does not take what was given.
    """
    if Path(name).suffix in RUNTIME_OF:
        if checkpoint:
            raise UsageError(f"--checkpoint chooses among the weights of a run; {name!r} is a file and has its own")
        return _exported(name, engine, threads)
    if engine not in ("auto", *OF_RUNS):
        raise UsageError(f"--engine {engine} takes a file of `convsmith export --to {engine}`; a run has {', '.join(OF_RUNS)}")
    network = trained.load(runs.open(runs.find(name, runs.root())), checkpoint)
    if engine in ("onnxruntime", "openvino"):
        return _in_runtime(network, engine, threads)
    return natively(network, threads) if engine == "native" else of_run(network, threads)


def of_run(network: trained.Trained, threads: int | None = None) -> Network:
    """Return a trained network as a classifier."""

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        import torch

        from convsmith.training.scoring import logits_of

        if threads:
            torch.set_num_threads(threads)
        small = (data.resize(image, network.preprocess) for image in images)
        parts = (torch.from_numpy(np.stack(part)) for part in _chunks(small, batch))
        return logits_of(network.module, parts, network.preprocess).numpy()

    return Network(network.name, network.classes, logits, network.run, confidence_of(network.run))


def natively(network: trained.Trained, threads: int | None = None) -> Network:
    """Return a trained network, compiled for the native engine, as a classifier."""
    from convsmith import compiler

    program = compiler.build(network.graph, threads=threads)

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        small = (data.resize(image, network.preprocess) for image in images)
        parts = [program(data.normalise(np.stack(part), network.preprocess)) for part in _chunks(small, batch)]
        return np.concatenate(parts) if parts else np.zeros((0, len(network.classes)), np.float32)

    return Network(network.name, network.classes, logits, network.run, confidence_of(network.run), "native")


def confidence_of(run: runs.Run) -> targets.Confidence:
    """Return the temperature and threshold that the run's export fitted; without one the scores are the plain softmax."""
    found = run.read_json("confidence.json") if run.has("confidence.json") else None
    return targets.Confidence(found["temperature"], found["threshold"]) if found else targets.Confidence()


def _in_runtime(network: trained.Trained, engine: str, threads: int | None) -> Network:
    """Return a trained network as a file in memory, opened by ONNX Runtime or OpenVINO."""
    confidence = confidence_of(network.run)
    shipped = targets.Shipment(network.graph, network.preprocess, network.classes, confidence)
    model = targets.onnx_model(shipped).SerializeToString()
    opener = targets.onnxruntime_run if engine == "onnxruntime" else targets.openvino_run
    run, _ = opener(model, threads)
    session = session_of(network.run.folder, engine, run, shipped.fields())
    return Network(network.name, network.classes, _logits_of(session), network.run, confidence, engine)


def _exported(name: str, engine: str, threads: int | None) -> Network:
    path = Path(name).expanduser()
    own = RUNTIME_OF[path.suffix]
    able = (own, "openvino") if own == "onnxruntime" else (own,)
    if engine not in ("auto", *able):
        taken = (
            f"a run, or a file of `convsmith export --to {engine}`" if engine in OF_RUNS else f"a file of `convsmith export --to {engine}`"
        )
        raise UsageError(f"{name!r} is opened by {' or '.join(able)}; --engine {engine} takes {taken}")
    if not path.is_file():
        raise UsageError(f"there is no file {name!r}; `convsmith export RUN` writes one")
    session = targets.load(path, runtime=own if engine == "auto" else engine, threads=threads)
    return Network(path.name, session.labels, _logits_of(session), None, session.confidence, session.runtime)


def _logits_of(session: targets.Session) -> Callable[[Images, int], NDArray[np.float32]]:
    from convsmith.targets.prediction import outputs

    def logits(images: Images, batch: int) -> NDArray[np.float32]:
        parts: list[Any] = [found for _, _, found in outputs(session, images, batch=batch)]
        return np.concatenate(parts) if parts else np.zeros((0, len(session.labels)), np.float32)

    return logits


def decoded(split: Split) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a split in order."""
    return (split.image(index) for index in range(len(split)))


def _chunks(images: Images, size: int) -> Iterator[list[NDArray[np.uint8]]]:
    source = iter(images)
    while part := list(islice(source, size)):
        yield part

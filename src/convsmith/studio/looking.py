"""What needs torch, done in a process of its own: the server stays small, and a network too large for the memory takes only that along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convsmith import runs
from convsmith.data.decode import decode
from convsmith.data.workers import Pool
from convsmith.errors import ConvsmithError, DataError, ResourceError, UsageError
from convsmith.report.pictures import data_uri
from convsmith.studio import pictures

if TYPE_CHECKING:
    from convsmith.jobs.trained import Trained

IDLE_S = 600.0
MOST_LAYERS = 60
SHEET_ROWS, SHEET_EPOCHS = 12, 12


class Looker:
    """One process that answers one question after another; it ends after ten idle minutes, and another starts when asked again."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._alone = threading.Lock()
        self._idle: threading.Timer | None = None

    def ask(self, kind: str, **task: Any) -> Any:
        """Return the answer of one of the functions below.

        Raises: whatever `ConvsmithError` it raises; ResourceError when the process dies, for lack of memory most often.
        """
        with self._alone:
            self._pool = self._pool or Pool(1, answer)
            try:
                good, found = next(iter(self._pool.results([(kind, task)])))
            except ResourceError:
                self._end()
                raise ResourceError("the process that looks at networks died, most likely because the memory ran out; try again") from None
            finally:
                self._wait()
        if not good:
            raise UsageError(f"this cannot be looked at: {found}")
        return found

    def close(self) -> None:
        """End the process."""
        with self._alone:
            self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(IDLE_S, self.close)
        self._idle.daemon = True
        self._idle.start()


def answer(question: tuple[str, Mapping[str, Any]]) -> tuple[bool, Any]:
    """Answer one question; an error that nobody foresaw is told in words, so that the process stays for the next."""
    kind, task = question
    try:
        return True, ANSWERS[kind](**task)
    except ConvsmithError:
        raise
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"


@lru_cache(maxsize=4)
def _network(folder: str, checkpoint: str, stamp: int) -> Trained:
    from convsmith.jobs import trained

    return trained.load(runs.open(folder), checkpoint)


def network(folder: str, checkpoint: str) -> Trained:
    """Return the network of a run with its best weights or those of a checkpoint, kept while these stay the same."""
    weights = Path(folder) / (f"checkpoints/{checkpoint}.pt" if checkpoint else "weights.safetensors")
    return _network(folder, checkpoint, weights.stat().st_mtime_ns if weights.exists() else 0)


def classify(folder: str, images: list[tuple[str, bytes]], top: int, checkpoint: str) -> dict[str, Any]:
    """Name what is on uploaded images, each with the best classes or why it cannot be read."""
    from convsmith.jobs import classifier

    found, pixels, rows = network(folder, checkpoint), [], list[dict[str, Any]]()
    for name, content in images:
        try:
            pixels.append(decode(content, name))
            rows.append({"image": name})
        except DataError as error:
            rows.append({"image": name, "error": str(error)})
    scores = iter(classifier.of_run(found).scores(pixels, 16)) if pixels else iter(())
    for row in rows:
        if "error" not in row:
            row["best"] = _best(next(scores), found.classes, top)
    return {"network": found.name, "classes": list(found.classes), "predictions": rows}


def _best(row: Any, classes: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-np.asarray(row), kind="stable")[:top]
    return [{"class": classes[index], "score": float(row[index])} for index in order]


def explain(folder: str, name: str, content: bytes, target: str, layer: str, checkpoint: str) -> dict[str, Any]:
    """Tell what one image does in a network: the best classes, Grad-CAM, the first filters, and every layer's maps as pictures."""
    from convsmith.training import explanation

    found, image = network(folder, checkpoint), decode(content, name)
    if target and target not in found.classes:
        raise UsageError(f"there is no class {target!r}; there are {', '.join(found.classes)}")
    chosen = found.classes.index(target) if target else None
    told = explanation.explain(found.module, image, found.preprocess, target=chosen, layer=layer or None)
    layers = [one.to_dict() | {"pictures": [data_uri(plane) for plane in one.maps]} for one in told.activations[:MOST_LAYERS]]
    return {
        "best": _best(told.probabilities, found.classes, 5),
        "image": data_uri(told.image),
        "heat": data_uri(pictures.heated(told.image, told.heat)),
        "target": found.classes[told.target],
        "heat_layer": told.heat_layer,
        "filters": [data_uri(one) for one in told.filters[:64]],
        "filters_layer": told.filters_layer,
        "layers": layers,
        "places": [one.name for one in told.activations if len(one.maps)],
        "weights": _weights(found.module),
    }


def _weights(module: Any) -> list[dict[str, Any]]:
    """Return mean, deviation and histogram of each array of weights."""
    rows = []
    for name, array in list(module.state_dict().items())[: 2 * MOST_LAYERS]:
        if not array.is_floating_point() or array.numel() < 2:
            continue
        values = array.float().numpy().ravel()
        counts, edges = np.histogram(values, 32)
        span = [float(edges[0]), float(edges[-1])]
        told = {"mean": float(values.mean()), "std": float(values.std()), "range": span, "counts": counts.tolist()}
        rows.append({"name": name, "shape": list(array.shape), "parameters": array.numel()} | told)
    return rows


def augment(source: Mapping[str, Any], settings: Mapping[str, Any] | None, rows: int, epochs: int, seed: int) -> dict[str, Any]:
    """Return the contact sheet of `convsmith preview` as a PNG, and what was changed and why."""
    from convsmith import data, training
    from convsmith.jobs import preview, sources
    from convsmith.jobs.configuration import validate
    from convsmith.jobs.settings import Images
    from convsmith.training.config import Augment

    dataset = sources.open_images(validate(Images, source), runs.Unrecorded())
    preprocess, _ = data.choose_preprocess(dataset)
    if settings is None:
        chosen, spoken = training.choose(dataset, preprocess)
        changes, reasons = chosen.augment, [reason for reason in spoken if reason.startswith(("images are", "photos", "small images"))]
    else:
        changes, reasons = validate(Augment, settings), ["as set"]
    sheet = preview.draw(dataset.train, preprocess, changes, rows=min(rows, SHEET_ROWS), epochs=min(epochs, SHEET_EPOCHS), seed=seed)
    return {
        "sheet": data_uri(sheet),
        "size": list(sheet.shape[:2]),
        "augment": changes.model_dump(mode="json", exclude_defaults=True),
        "reasons": reasons,
    }


def draw(name: str, size: int | None, channels: int | None, classes: int | None) -> dict[str, Any]:
    """Return the nodes of a network with their cost, and which reads which."""
    from convsmith import analysis
    from convsmith.jobs import subject

    graph = subject.open_subject(name, subject.Wanted(size, channels, classes)).graph
    report = analysis.analyse(graph).to_dict()
    cost = {row["name"]: row for row in report["layers"]}
    made = {output: node.name for node in graph for output in node.outputs}
    nodes = [
        {"name": node.name, "op": node.op, "reads": sorted({made[value] for value in node.inputs if value in made})}
        | {key: cost.get(node.name, {}).get(key) for key in ("output_shape", "parameters", "macs")}
        for node in graph
    ]
    return {"name": name, "input": list(graph.inputs[0].shape), "nodes": nodes}


ANSWERS: dict[str, Callable[..., Any]] = {"classify": classify, "explain": explain, "augment": augment, "draw": draw}

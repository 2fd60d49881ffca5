"""The ways of averaging that a run allows: over views, draws of dropout, checkpoints, weights and other runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from convsmith.data.dataset import Dataset, Split
    from convsmith.training.averaging import Answers, Member, Method
    from convsmith.training.soups import Weights

Average = Literal["none", "flip", "crops", "scales", "dropout", "checkpoints", "swa", "soup", "ensemble"]
NO_SNAPSHOTS = "the run kept no snapshots; train with --set training.snapshots=5"
NO_OTHERS = "give other runs on the same images"


@dataclass
class Ways:
    """Methods with their networks, those that the run does not allow with the reason, and remarks."""

    methods: list[Method] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def part_of(dataset: Dataset, part: str) -> Split:
    """Return a part of the images; `UsageError` names those there are."""
    parts: Mapping[str, Split] = {str(name): split for name, split in dataset.splits.items()}
    if part not in parts or not len(parts[part]):
        raise UsageError(f"{dataset.source} has no {part} part; it has {', '.join(parts)}")
    return parts[part]


def read(
    methods: Sequence[Method],
    members: Mapping[str, Member],
    split: Split,
    places: NDArray[np.int64],
    *,
    batch: int,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """Make the readings of the methods on some images of a split."""
    from convsmith.training import averaging

    images = (split.image(int(place)) for place in places)
    return averaging.read(methods, members, images, batch=batch, progress=progress)


def prepare(
    run: runs.Run,
    others: Sequence[str],
    dataset: Dataset,
    listener: runs.Listener,
    *,
    only: str | None = None,
    draws: int = 8,
    workers: int = 0,
) -> Ways:
    """Return every way that a run allows, the plain one first; with ``only`` that one beside it.

    Raises: UsageError when a run does not fit the others; with ``only``, when this run does not allow it.
    """
    from convsmith.training.averaging import Member, Method, Reading
    from convsmith.training.views import FLIP, five_scales, ten_crops

    network = trained.load(run)
    ways = Ways()
    ways.members["plain"] = Member(network.module, network.preprocess)
    ways.methods.append(Method("plain", "one look at each image", (Reading("plain"),)))
    for name, told, views in (
        ("flip", "the image and its mirror image", FLIP),
        ("crops", "middle and corners, mirrored too", ten_crops()),
        ("scales", "ten crops at five scales, as ResNet's authors", five_scales()),
    ):
        ways.methods.append(Method(name, told, tuple(Reading("plain", view) for view in views)))
    if only not in ("flip", "crops", "scales"):
        _add_dropout(ways, network, draws)
        _add_checkpoints(ways, network, dataset, listener, only, workers)
        _add_others(ways, network, [_other(name, network) for name in others], dataset, listener, only, workers)
    if only is not None:
        if only not in {method.name for method in ways.methods}:
            raise UsageError(f"--average {only} is not possible here: {ways.absent[only]}")
        ways.methods = [method for method in ways.methods if method.name in ("plain", only)]
    return ways


def _add_dropout(ways: Ways, network: trained.Trained, draws: int) -> None:
    from convsmith.training import noise
    from convsmith.training.averaging import Method, Reading
    from convsmith.training.config import Training

    if network.run.has("training.json"):
        noise.attach(network.module, Training.model_validate(network.run.read_json("training.json")))
    if noise.draws(network.module):
        readings = tuple(Reading("plain", draw=number) for number in range(1, draws + 1))
        ways.methods.append(Method("dropout", f"{draws} draws of dropout", readings))
    else:
        ways.absent["dropout"] = "the network was trained without dropout; train with --set training.dropout=0.2"


def _add_checkpoints(
    ways: Ways, network: trained.Trained, dataset: Dataset, listener: runs.Listener, only: str | None, workers: int
) -> None:
    """Add the ensemble of the run's snapshots, and their mean."""
    from convsmith.training import snapshots, soups
    from convsmith.training.averaging import Member, Method, Reading

    kept = snapshots.load(network.run.folder / "checkpoints")
    if len(kept) < 2:
        ways.absent |= dict.fromkeys(("checkpoints", "swa"), NO_SNAPSHOTS)
        return
    if only in (None, "checkpoints"):
        for number, weights in enumerate(kept, 1):
            ways.members[f"snapshot {number}"] = Member(_with(network.module, weights), network.preprocess)
        readings = tuple(Reading(f"snapshot {number}") for number in range(1, len(kept) + 1))
        ways.methods.append(Method("checkpoints", f"{len(kept)} snapshots of the run", readings))
    if only in (None, "swa"):
        listener.progress("mean of weights", 0, 1)
        ways.members["swa"] = Member(_restored(network, soups.mean(kept), dataset, workers), network.preprocess)
        listener.progress("mean of weights", 1, 1)
        ways.methods.append(Method("swa", f"one network: the mean of {len(kept)} snapshots' weights", (Reading("swa"),)))


def _add_others(
    ways: Ways,
    network: trained.Trained,
    others: Sequence[trained.Trained],
    dataset: Dataset,
    listener: runs.Listener,
    only: str | None,
    workers: int,
) -> None:
    """Add the ensemble with other runs, and the greedy soup of all weights of one architecture."""
    from convsmith.training import snapshots
    from convsmith.training.averaging import Member, Method, Reading

    if others:
        names = [f"other {number}" for number in range(1, len(others) + 1)]
        ways.members |= {name: Member(other.module, other.preprocess) for name, other in zip(names, others, strict=True)}
        told = f"with {len(others)} other run{'s' if len(others) > 1 else ''}"
        ways.methods.append(Method("ensemble", told, tuple(Reading(name) for name in ("plain", *names))))
    else:
        ways.absent["ensemble"] = NO_OTHERS
    alike = [other.module.state_dict() for other in others if (other.name, other.preprocess) == (network.name, network.preprocess)]
    kept = snapshots.load(network.run.folder / "checkpoints") if not alike else []
    if not alike and len(kept) < 2:
        ways.absent["soup"] = f"{NO_OTHERS} with the same model and input, or: {NO_SNAPSHOTS}"
        return
    if only not in (None, "soup"):
        return
    ingredients = [network.module.state_dict(), *alike] if alike else kept
    module, used = _soup(network, ingredients, dataset, listener, workers)
    ways.members["soup"] = Member(module, network.preprocess)
    of = "runs" if alike else "snapshots"
    ways.methods.append(Method("soup", f"one network: the mean of {len(used)} of {len(ingredients)} {of}' weights", (Reading("soup"),)))
    ways.notes.append("The soup was put together by its accuracy on the validation images; on those it is a little favoured.")


def _soup(
    network: trained.Trained, ingredients: Sequence[Weights], dataset: Dataset, listener: runs.Listener, workers: int
) -> tuple[nn.Module, tuple[int, ...]]:
    from convsmith import training
    from convsmith.training import soups

    tried, val = 0, part_of(dataset, "val")

    def score(weights: Weights) -> float:
        nonlocal tried
        tried += 1
        listener.progress("soup", tried, 2 * len(ingredients) - 1)
        alone = any(weights is state for state in ingredients)
        module = _with(network.module, weights) if alone else _restored(network, weights, dataset, workers)
        logits = training.score(module, val, network.preprocess, workers=workers)
        return float((logits.argmax(1) == val.labels).mean())

    weights, used = soups.greedy(ingredients, score)
    if len(used) == 1:
        return _with(network.module, ingredients[used[0]]), used
    return _restored(network, weights, dataset, workers), used


def _restored(network: trained.Trained, weights: Weights, dataset: Dataset, workers: int) -> nn.Module:
    from convsmith.training import soups

    module = _with(network.module, weights)
    soups.restore_norms(module, dataset.train, network.preprocess, workers=workers)
    return module


def _with(module: nn.Module, weights: Weights) -> nn.Module:
    other = copy.deepcopy(module)
    other.load_state_dict(dict(weights))
    return other.eval()


def _other(name: str, network: trained.Trained) -> trained.Trained:
    """Load another run; it must know the same classes in the same order, and have held out the same images."""
    other = trained.load(runs.open(runs.find(name, runs.root())))
    ours, theirs = (found.run.read_json("dataset.json")["fingerprint"] for found in (network, other))
    if other.classes == network.classes and ours != theirs:
        raise UsageError(f"{name} was trained on other images or another split, so it may have seen those it would be measured on")
    if other.classes != network.classes:
        raise UsageError(
            f"{name} knows {len(other.classes)} classes, {_differing(other.classes, network.classes)}; average runs on the same data"
        )
    return other


def _differing(theirs: Sequence[str], ours: Sequence[str]) -> str:
    for place, name in enumerate(theirs):
        if place >= len(ours) or ours[place] != name:
            return f"number {place} is {name!r} and not {ours[place]!r}" if place < len(ours) else f"{name!r} is one too many"
    return f"{ours[len(theirs)]!r} is missing"

"""Trained arrays from a network of another world into a torch module of the same layers: by order and shape, not by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from convsmith.errors import DataError
from convsmith.graph import Graph

Array = np.ndarray[Any, Any]
Kind = Literal["convolution", "linear", "norm"]
KINDS: dict[Kind, type[nn.Module] | tuple[type[nn.Module], ...]] = {
    "convolution": nn.Conv2d,
    "linear": nn.Linear,
    "norm": nn.BatchNorm2d,
}
_OPERATORS: dict[str, Kind] = {"Conv": "convolution", "Gemm": "linear", "BatchNormalization": "norm"}


@dataclass(frozen=True)
class Layer:
    """The arrays of one layer under torch's names and axes. ``epsilon``: of a norm."""

    name: str
    kind: Kind
    arrays: dict[str, Array]
    epsilon: float = 0.0


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """Return the convolutions, products and norms of a graph in its order."""
    found = []
    for node in graph:
        kind = _OPERATORS.get(node.op)
        if kind is None or any(name not in graph.weights for name in node.inputs[1:] if name):
            continue
        parts = ("weight", "bias", "running_mean", "running_var") if kind == "norm" else ("weight", "bias")
        arrays = {part: np.asarray(graph.weights[name]) for part, name in zip(parts, node.inputs[1:], strict=False) if name}
        if kind == "linear" and not node.attributes.get("transB", 0):
            arrays["weight"] = arrays["weight"].T
        found.append(Layer(node.name, kind, arrays, float(node.attributes.get("epsilon", 1e-5)) if kind == "norm" else 0.0))  # type: ignore[arg-type]
    return tuple(found)


def fits(module: nn.Module, layers: Sequence[Layer]) -> bool:
    """Tell whether the layers are those of ``module``, but for the number of classes or an absent last layer."""
    try:
        _pairs(module, layers)
    except DataError:
        return False
    return True


def head_width(module: nn.Module, layers: Sequence[Layer]) -> int:
    """Return the number of classes of the file's last layer, 0 where the file ends before it."""
    own = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    given = [layer for layer in layers if layer.kind != "norm"]
    return int(given[-1].arrays["weight"].shape[0]) if len(given) == len(own) else 0


def transplant(module: nn.Module, layers: Sequence[Layer], *, order: Literal["rgb", "bgr"] = "rgb") -> tuple[str, ...]:
    """Copy the arrays into ``module`` and return the names of the parameters that kept their own start: those of another head.

    The n-th convolution goes to the n-th, and so for linear layers and norms. With ``order="bgr"`` the input channels of the first
    layer are turned round, so that the module reads red, green, blue. A norm with another epsilon gets it added to its variance.

    Raises: DataError that says what does not fit.
    """
    pairs, kept = _pairs(module, layers)
    first = True
    with torch.no_grad():
        for (name, target), layer in pairs:
            arrays = dict(layer.arrays)
            if first and order == "bgr" and arrays["weight"].ndim == 4:
                arrays["weight"] = arrays["weight"][:, ::-1]
            first = False
            if isinstance(target, nn.BatchNorm2d):
                arrays["running_var"] = _variance(arrays["running_var"], layer.epsilon, target.eps, name)
            for part, array in arrays.items():
                getattr(target, part).copy_(torch.from_numpy(np.array(array, np.float32)))
    return kept


def _variance(variance: Array, theirs: float, ours: float, name: str) -> Array:
    moved = variance.astype(np.float64) + theirs - ours
    if (moved < 0).any():
        raise DataError(
            f"{name} has epsilon {ours:g}, the file {theirs:g}: the difference is more than a variance; build it with that epsilon"
        )
    return moved.astype(np.float32)


Pair = tuple[tuple[str, nn.Module], Layer]


def _pairs(module: nn.Module, layers: Sequence[Layer]) -> tuple[list[Pair], tuple[str, ...]]:
    """Return which layer goes where, in the module's order, and the parameters of a head that gets none."""
    own = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    head = [name for name, part in own if not isinstance(part, nn.BatchNorm2d)][-1]
    pairs: list[Pair] = []
    kept: tuple[str, ...] = ()
    for kind, types in KINDS.items():
        targets = [(name, part) for name, part in own if isinstance(part, types)]
        given = [layer for layer in layers if layer.kind == kind]
        headless = len(given) == len(targets) - 1 and bool(targets) and targets[-1][0] == head
        if len(given) != len(targets) and not headless:
            raise DataError(f"the file has {len(given)} layers of the kind {kind}, the network {len(targets)}")
        if headless:
            kept = _parameters(targets[-1])
        for target, layer in zip(targets, given, strict=False):
            if target[0] == head and _other_classes(target[1], layer):
                kept = _parameters(target)
            else:
                _check(target, layer)
                pairs.append((target, layer))
    places = {name: place for place, (name, _) in enumerate(own)}
    return sorted(pairs, key=lambda pair: places[pair[0][0]]), kept


def _parameters(target: tuple[str, nn.Module]) -> tuple[str, ...]:
    return tuple(f"{target[0]}.{part}" for part, _ in target[1].named_parameters())


def _shapes(part: nn.Module) -> dict[str, tuple[int, ...]]:
    own = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    return {name: tuple(value.shape) for name, value in own.items() if name != "num_batches_tracked"}


def _other_classes(part: nn.Module, layer: Layer) -> bool:
    own, theirs = _shapes(part)["weight"], tuple(layer.arrays["weight"].shape)
    return own[1:] == theirs[1:] and own[0] != theirs[0]


def _check(target: tuple[str, nn.Module], layer: Layer) -> None:
    own, theirs = _shapes(target[1]), {part: array.shape for part, array in layer.arrays.items()}
    if own != theirs:
        raise DataError(f"layer {layer.name!r} of the file has {_described(theirs)}; {target[0]} of the network has {_described(own)}")


def _described(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{part} {' x '.join(map(str, shape))}" for part, shape in shapes.items())

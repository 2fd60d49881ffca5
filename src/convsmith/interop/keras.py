"""Weight files of Keras, .h5: the arrays of every layer in the order of the network, turned to the axes of torch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.interop.transplant import Array, Layer

EPSILON = 1e-3
"""Keras's own in batch norm; the layers of a file with a `model_config` say theirs."""

_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def read(path: Path | str) -> tuple[Layer, ...]:
    """Return the layers that hold arrays, in the order of the file's `layer_names`.

    Kernels become (maps, channels / groups, rows, columns) and (outputs, inputs). Both kinds of file are read: weights alone, and
    whole models, whose layers stand in `model_weights`.

    Raises: UsageError without h5py; DataError for a file that is none or is cut off; UnsupportedError naming a layer that is neither
    convolution, dense nor batch norm.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(f"{str(path)!r} needs h5py; install it with: pip install 'convsmith[keras]'")
    import h5py

    if not Path(path).is_file():
        raise DataError(f"no weights file {str(path)!r}")
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            epsilons = _epsilons(file.attrs.get("model_config"))
            names = [_text(name) for name in root.attrs["layer_names"]]
            found = [_layer(name, _arrays(root[name]), epsilons.get(name, EPSILON)) for name in names if name in root]
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{str(path)!r} is not a whole Keras weight file: {str(error).splitlines()[0]}") from None
    return tuple(layer for layer in found if layer is not None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _arrays(group: Any) -> dict[str, Array]:
    """Return the arrays of one layer by name, in the order that `weight_names` gives where it is there."""
    import h5py

    found: dict[str, Array] = {}
    if "weight_names" in group.attrs:
        for name in map(_text, group.attrs["weight_names"]):
            found[name] = np.asarray(group[name], np.float32)
        return found

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item, np.float32)

    group.visititems(visit)
    return found


def _layer(name: str, arrays: dict[str, Array], epsilon: float) -> Layer | None:
    """Return one layer; None for one without arrays."""
    if not arrays:
        return None
    parts = {key.rsplit("/", 1)[-1].split(":")[0]: array for key, array in arrays.items()}
    if parts.keys() <= {*_NORM} and {"moving_mean", "moving_variance"} <= parts.keys():
        norm = {_NORM[part]: array for part, array in parts.items()}
        width = len(norm["running_mean"])
        return Layer(name, "norm", {"weight": np.ones(width, np.float32), "bias": np.zeros(width, np.float32), **norm}, epsilon)
    kernels = [(part, array) for part, array in parts.items() if array.ndim in (2, 4)]
    biases = [array for array in parts.values() if array.ndim == 1]
    if len(kernels) != 1 or len(biases) > 1 or len(parts) != len(kernels) + len(biases):
        shown = ", ".join(f"{part} {' x '.join(map(str, array.shape))}" for part, array in parts.items())
        raise UnsupportedError(f"layer {name!r} holds {shown}; supported are convolution, depthwise convolution, dense and batch norm")
    part, kernel = kernels[0]
    bias = {"bias": biases[0]} if biases else {}
    if kernel.ndim == 2:
        return Layer(name, "linear", {"weight": kernel.T, **bias})
    if "depthwise" in part:  # (rows, columns, channels, multiplier): the maps of one channel stand together
        rows, columns, channels, multiplier = kernel.shape
        turned = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, rows, columns)
        return Layer(name, "convolution", {"weight": turned, **bias})
    return Layer(name, "convolution", {"weight": kernel.transpose(3, 2, 0, 1), **bias})


def _epsilons(config: Any) -> dict[str, float]:
    """Return the epsilon of each batch norm that a model's description gives."""
    if config is None:
        return {}
    described = json.loads(_text(config)).get("config", {})
    layers = described.get("layers", []) if isinstance(described, dict) else described
    settings = [layer.get("config", {}) for layer in layers if layer.get("class_name") == "BatchNormalization"]
    return {str(each["name"]): float(each["epsilon"]) for each in settings if "name" in each and "epsilon" in each}

"""Torch checkpoints of any age, read by torch's restricted unpickler with a short list of harmless classes more."""

from __future__ import annotations

import argparse
import pickle
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

# what old training scripts put beside the weights: their arguments, and scores as NumPy numbers and arrays; building them runs nothing
HARMLESS: tuple[Any, ...] = (
    argparse.Namespace,
    SimpleNamespace,
    defaultdict,
    dict,
    list,
    set,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(name)) for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")),
)


def load(path: Path) -> Any:
    """Return the content of a checkpoint; every class that is neither torch's own nor in `HARMLESS` is refused.

    Both formats are read, the zip file and the one of torch before 1.6.

    Raises: pickle.UnpicklingError naming the class that was refused; RuntimeError or EOFError for a broken file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with torch.serialization.safe_globals([*HARMLESS, *_numpy_builders()]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _numpy_builders() -> list[Any]:
    """Return NumPy's two functions that build arrays and numbers, under the names of NumPy 1 and 2."""
    from numpy._core import multiarray

    builders = [getattr(multiarray, name) for name in ("_reconstruct", "scalar")]
    return [*builders, *((builder, f"numpy.core.multiarray.{builder.__name__}") for builder in builders)]

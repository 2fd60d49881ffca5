"""Architectures: one family a file, all of them named in `ZOO`; torch is loaded only when a network is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convsmith.models.choice import choose
from convsmith.models.entry import Entry
from convsmith.models.lookup import names, register
from convsmith.models.zoo import ZOO

if TYPE_CHECKING:
    from convsmith.models.loading import load
    from convsmith.models.weights import load_weights

__all__ = ["ZOO", "Entry", "choose", "load", "load_weights", "names", "register"]

_NEEDS_TORCH = {"load": "convsmith.models.loading", "load_weights": "convsmith.models.weights"}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)

"""Functions named by where they are, found when they are called: this room must not import torch, nor the rooms above it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def at(place: str) -> Callable[..., Any]:
    """Return a function that imports ``module:function`` when it is called, and calls it."""
    module, name = place.split(":")

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    call.__name__ = name
    return call

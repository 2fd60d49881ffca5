"""The studio: pages and a REST interface over the same jobs and runs as the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsmith.studio.application import app
    from convsmith.studio.serving import serve
    from convsmith.studio.settings import Settings

__all__ = ["Settings", "app", "serve"]

# loaded when used: the command line asks for the settings alone to make its flags
_OWNER = {"app": "application", "serve": "serving", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    if name not in _OWNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_OWNER[name]}"), name)

"""Files that are either whole or not there: training state on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from convsmith.errors import DataError, ResourceError

State = dict[str, Any]
VERSION = 1


def save(state: State, path: Path) -> int:
    """Write ``state`` so that a kill or a crash at any moment leaves the old file or the new one; return its size in bytes.

    Raises: ResourceError when the disk is full or not writable.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save({"version": VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        # torch tells of a full disk by a RuntimeError of its own, raised while it handles the system's
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or cause
        raise ResourceError(f"cannot write the checkpoint {path}: {reason}; free some space or choose another folder") from error
    return size


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path) -> State:
    """Read a checkpoint; nothing in it is executed (``weights_only``).

    Raises: DataError when it is not one, or of another version.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"there is no checkpoint {path}") from None
    except Exception as error:
        raise DataError(f"{path} is not a checkpoint of Convsmith: {error}") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        found = state.get("version") if isinstance(state, dict) else type(state).__name__
        raise DataError(f"{path} is a checkpoint of version {found}; this Convsmith reads version {VERSION}")
    return state

"""The reading side of a run: what the folder says, whoever wrote it and however it ended."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.runs import process

SCHEMA = 1
ENDS = ("finished", "failed", "interrupted")


@dataclass(frozen=True)
class Predictions:
    """What a network said about the test images. ``logits``: float32 ``(n, classes)``; ``labels``: int64 ``(n,)``."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it. ``described`` is run.json."""

    folder: Path
    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def verb(self) -> str:
        return str(self.described["verb"])

    @property
    def data(self) -> str:
        return str(self.described.get("data", ""))

    @property
    def created(self) -> str:
        return str(self.described["created"])

    @property
    def summary(self) -> Mapping[str, Any]:
        return dict(self.described.get("summary") or {})

    @property
    def error(self) -> str | None:
        return self.described.get("error")

    @property
    def status(self) -> str:
        """``running``, an end, or ``stopped`` when it should run and its process is gone (killed, or the machine went down)."""
        status = str(self.described["status"])
        return "stopped" if status == "running" and not process.alive(self.described["process"]) else status

    @property
    def config(self) -> dict[str, Any]:
        """The configuration the run was started with."""
        path = self.folder / "config.yaml"
        try:
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run; `UsageError` when this run has none of that name."""
        return read_json(self.folder, name)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events in order; a line that a killed writer left half-written is passed over."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return
        with path.open("rb") as lines:
            yield from objects(lines)

    def predictions(self) -> Predictions:
        """Read the predictions on the test images; `UsageError` when the run has none."""
        path = self.folder / "predictions.npz"
        if not path.is_file():
            raise UsageError(f"{self.folder} has no predictions.npz: the run did not come to its test ({self.status})")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                return Predictions(arrays["logits"], arrays["labels"], tuple(str(name) for name in arrays["names"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read: {error}") from None


def objects(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among the lines; what a killed writer left half-written is passed over."""
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def open_run(folder: str | Path) -> Run:
    """Open a run folder for reading.

    Raises: UsageError when there is no run, or one of another version; ResourceError when it may not be read.
    """
    path = Path(folder).expanduser()
    file = path / "run.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path} is not a run: it has no run.json. `convsmith runs list` shows the runs there are.") from None
    except PermissionError:
        raise ResourceError(f"{file} may not be read: permission denied") from None
    except ValueError:
        raise UsageError(f"{file} is not valid JSON, so this folder cannot be opened as a run") from None
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, int):
        raise UsageError(f"{file} has no run schema number, so this folder was not written by Convsmith")
    if schema != SCHEMA:
        writer = (described.get("versions") or {}).get("convsmith", "another version")
        raise UsageError(
            f"{path} has run schema {schema}, written by convsmith {writer}; this version reads schema {SCHEMA}. "
            "Open it with the version that wrote it."
        )
    missing = {"verb", "status", "created", "process"} - described.keys()
    if missing:
        raise UsageError(f"{file} lacks {', '.join(sorted(missing))}, so this folder cannot be opened as a run")
    return Run(path, described)


def read_json(folder: Path, name: str) -> Any:
    """Read a JSON file of a run folder; `UsageError` says which file is missing or broken."""
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {name}") from None
    except ValueError:
        raise UsageError(f"{folder / name} is not valid JSON") from None

"""What a long job found so far, in a file of the run folder, so that one that was interrupted goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from convsmith import runs
from convsmith.errors import DataError


class Found(Protocol):
    """Something found that a file can hold."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Found)


class Kept(Generic[T]):
    """Points or trials in a file, written after each. ``read`` makes one of what its ``to_dict`` gave; other settings begin anew.

    Raises: DataError for a file that cannot be read.
    """

    def __init__(self, record: runs.Record, name: str, what: str, read: Callable[[Mapping[str, Any]], T], settings: Mapping[str, Any]):
        self.record, self.name, self.what, self.settings = record, name, what, dict(runs.plain(settings))
        self.found: list[T] = []
        if (record.folder / name).is_file():
            stored = record.read_json(name)
            try:
                if stored["settings"] == self.settings:
                    self.found = [read(values) for values in stored[what]]
            except (KeyError, TypeError) as error:
                raise DataError(f"{record.folder / name} cannot be read ({error}); remove it to begin anew") from None
        if self.found:
            record.event("resume", **{what: len(self.found)})

    def add(self, found: T) -> None:
        self.found.append(found)
        self.record.write_json(self.name, {"settings": self.settings, self.what: [known.to_dict() for known in self.found]})

    def forget(self) -> None:
        """Remove the file, once the result is written."""
        (self.record.folder / self.name).unlink(missing_ok=True)

"""A run folder as the page reads it: what is not there is None, what cannot be read is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convsmith import runs
from convsmith.analysis import Evaluation, evaluate
from convsmith.errors import ConvsmithError


@dataclass(frozen=True)
class Source:
    """One run. ``thumbnails`` gives the PNG of a test image by its index, for runs without a mistakes folder."""

    run: runs.Run
    events: tuple[Mapping[str, Any], ...]
    thumbnails: Callable[[int], bytes] | None = None

    @property
    def described(self) -> Mapping[str, Any]:
        return self.run.described

    @property
    def status(self) -> str:
        """The run's status; a page that the run itself writes as its last act counts it as finished."""
        own = self.described["process"].get("pid") == os.getpid()
        return "finished" if self.run.status == "running" and own else self.run.status

    def document(self, name: str) -> Any:
        """Return the content of ``name``, None when there is no such file.

        Raises: UsageError when it is not valid JSON.
        """
        return self.run.read_json(name) if self.run.has(name) else None

    def table(self, name: str) -> Mapping[str, Any] | None:
        """Return ``document`` when it is a JSON object with content, else None."""
        found = self.document(name)
        return found if isinstance(found, dict) and found else None

    def kinds(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the events of a kind in order."""
        return [event for event in self.events if event.get("kind") == kind]

    def evaluation(self) -> Evaluation | None:
        """Return evaluation.json, or the same computed from the predictions, or None."""
        stored = self.table("evaluation.json")
        if stored is not None:
            fields = Evaluation.__dataclass_fields__
            return Evaluation.from_dict({key: value for key, value in stored.items() if key in fields})
        if not self.run.has("predictions.npz"):
            return None
        predictions = self.run.predictions()
        return evaluate(predictions.logits, predictions.labels, self.classes(predictions.logits.shape[1]))

    @property
    def tested_on(self) -> str:
        """What the images of the evaluation are called: a source without a test part is evaluated on its validation images."""
        counts = (self.table("dataset.json") or {}).get("counts") or {"test": []}
        return "test" if "test" in counts else "validation"

    def classes(self, count: int) -> list[str]:
        """Return the class names of the model or the data, numbers when neither tells ``count`` of them."""
        for name in ("model.json", "dataset.json"):
            found = (self.table(name) or {}).get("classes")
            if isinstance(found, list) and len(found) == count:
                return [str(item) for item in found]
        return [str(index) for index in range(count)]


def open_source(folder: str | Path, thumbnails: Callable[[int], bytes] | None = None) -> Source:
    """Open a run folder.

    Raises: UsageError when it is no run of this version.
    """
    run = runs.open(folder)
    return Source(run, tuple(run.events()), thumbnails)


def quietly(build: Callable[[Source], Any], source: Source) -> tuple[Any, str | None]:
    """Return what ``build`` makes of the source and None, or None and what is wrong with the files.

    A file that another version or a person changed must not cost the rest of the page.
    """
    try:
        return build(source), None
    except ConvsmithError as error:
        return None, str(error)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        return None, f"{type(error).__name__}: {error}"

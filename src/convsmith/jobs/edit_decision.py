"""What a redesign decided, in the run folder until its end: edits, what each did, and the network before it is healed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from convsmith import runs
from convsmith.errors import DataError
from convsmith.jobs.kept import Kept

if TYPE_CHECKING:
    from convsmith import redesign
    from convsmith.graph.network import Graph

FILE: Final = "redesign_decision.json"
NETWORK: Final = "edited.safetensors"
LOSSES: Final = "redesign_losses.json"


@dataclass(frozen=True)
class Weighed:
    """An edit and what it was found to lose."""

    edit: redesign.Edit
    loss: float

    def to_dict(self) -> dict[str, Any]:
        return {"edit": self.edit.to_dict(), "loss": self.loss}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Weighed:
        from convsmith import redesign

        return cls(redesign.Edit.from_dict(values["edit"]), float(values["loss"]))


class Losses:
    """Losses of edits, each kept as soon as it is known: those found before an interrupted search are not estimated again."""

    def __init__(self, record: runs.Record, settings: Mapping[str, Any]) -> None:
        self._kept = Kept(record, LOSSES, "edits", Weighed.from_dict, settings)
        self._known = {weighed.edit: weighed.loss for weighed in self._kept.found}

    def remembering(self, estimate: redesign.selection.Loss) -> redesign.selection.Loss:
        """Return an estimate that asks ``estimate`` only for edits that were never asked for."""
        return partial(self._loss, estimate)

    def _loss(self, estimate: redesign.selection.Loss, edit: redesign.Edit, edited: Graph) -> float:
        if edit not in self._known:
            self._known[edit] = estimate(edit, edited)
            self._kept.add(Weighed(edit, self._known[edit]))
        return self._known[edit]

    def forget(self) -> None:
        """Remove the file, once something was decided."""
        self._kept.forget()


@dataclass(frozen=True)
class Decision:
    """The edits of a redesign, in order; of them the first ``exact`` change nothing. ``graph``: with all made and corrected.

    ``steps``: what each did, for the table; ``weighed``: of how many they were chosen; ``before_s``: the price of the original.
    """

    edits: tuple[redesign.Edit, ...]
    exact: int
    weighed: int
    before_s: float
    steps: tuple[dict[str, Any], ...]
    graph: Graph = field(repr=False)

    @property
    def changes(self) -> bool:
        """Whether there is an edit that changes the function."""
        return len(self.edits) > self.exact

    def keep(self, record: runs.Record) -> None:
        """Write the decision into the run folder; the file that says that it was made comes last."""
        from convsmith import graph as graphs

        graphs.save(self.graph, record.folder / NETWORK)
        fields = {name: getattr(self, name) for name in ("exact", "weighed", "before_s", "steps")}
        record.write_json(FILE, fields | {"edits": [edit.to_dict() for edit in self.edits]})


def recall(record: runs.Record, decide: Callable[[], Decision]) -> Decision:
    """Return the decision that an interrupted redesign had come to, or make and keep one.

    Raises: DataError for a file that cannot be read.
    """
    from convsmith import graph as graphs
    from convsmith import redesign

    path = record.folder / FILE
    if not path.is_file():
        made = decide()
        made.keep(record)
        return made
    stored = record.read_json(FILE)
    try:
        edits, steps = tuple(map(redesign.Edit.from_dict, stored["edits"])), tuple(map(dict, stored["steps"]))
        graph = graphs.load(record.folder / NETWORK)
        found = Decision(edits, int(stored["exact"]), int(stored["weighed"]), float(stored["before_s"]), steps, graph)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it to decide anew") from None
    record.event("resume", edits=len(found.edits))
    return found


def forget(record: runs.Record) -> None:
    """Remove what was kept, once the run has its network."""
    for name in (FILE, NETWORK):
        (record.folder / name).unlink(missing_ok=True)

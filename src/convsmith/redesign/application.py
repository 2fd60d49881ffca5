"""Edits done to a graph, proposed for one, and what each of them saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convsmith.analysis import analyse
from convsmith.graph import Graph
from convsmith.redesign.edit import Edit
from convsmith.redesign.kinds import KINDS, find


@dataclass(frozen=True)
class Change:
    """What an edit adds: negative where it saves. ``macs`` are multiply-accumulates of one image."""

    macs: int
    parameters: int


def apply(graph: Graph, edits: Iterable[Edit]) -> Graph:
    """Return the graph after all edits, one after the other; each means the nodes and channels that it finds.

    Raises: ``UsageError`` for an unknown kind, node or setting, ``UnsupportedError`` for a layer that cannot be changed so.
    """
    for edit in edits:
        graph = find(edit.kind).apply(graph, edit)
    return graph


def proposals(graph: Graph, kinds: Sequence[str] = ()) -> list[Edit]:
    """Return the edits worth trying on a graph: several ranks or widths of each layer, of all kinds or those given.

    Each is for the graph as it is; two of one layer exclude each other. Folding first lets other edits see fewer obstacles.
    """
    chosen = {name: find(name) for name in kinds} or KINDS
    return [edit for kind in chosen.values() for edit in kind.propose(graph)]


def change(graph: Graph, edit: Edit) -> Change:
    """Return what an edit adds to multiply-accumulates and parameters, by counting both graphs."""
    before, after = analyse(graph), analyse(apply(graph, [edit]))
    return Change(after.macs - before.macs, after.parameters - before.parameters)

"""Which of the proposed edits to make: the least loss for a time, or the least time for a loss, as an exact integer program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph
from convsmith.redesign.application import apply
from convsmith.redesign.channels import trace
from convsmith.redesign.edit import Edit

Price = Callable[[Graph], float]
"""Seconds of a network, predicted: a `PriceList`."""

Loss = Callable[[Edit, Graph], float]
"""What an edit loses, from the edit and the network with it alone; losses of several edits are added."""

ORDER: Final = ("fold", "dead", "merge", "join", "shortcut", "skip", "prune")
"""Kinds that come before all others when several edits are made: later ones mean what is left."""

GAP: Final = 1e-3
SECONDS: Final = 20.0
"""The solver stops when it is so near the optimum, or after that time."""

ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Option:
    """An edit with the seconds of the network when it is made alone, its loss, and what no other edit may change too."""

    edit: Edit
    seconds: float
    loss: float
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Choice:
    """What was chosen: ``graph`` is the network with all ``options`` made, ``seconds`` its price, ``loss`` the sum of theirs."""

    options: tuple[Option, ...]
    graph: Graph = field(repr=False)
    seconds: float = 0.0
    loss: float = 0.0

    @property
    def edits(self) -> tuple[Edit, ...]:
        return tuple(option.edit for option in self.options)


def weigh(
    graph: Graph, edits: Iterable[Edit], price: Price, loss: Loss, progress: Callable[[int, int, Edit], Any] | None = None
) -> list[Option]:
    """Return the edits that are quicker than none, with time and loss; one that is neither quicker nor safer than another is left out."""
    edits, before, found = list(edits), price(graph), list[Option]()
    for number, edit in enumerate(edits):
        if progress is not None:
            progress(number, len(edits), edit)
        edited = apply(graph, [edit])
        seconds = price(edited)
        if seconds < before:
            found.append(Option(edit, seconds, loss(edit, edited), claims(graph, edit, edited)))
    return undominated(found)


def undominated(options: Sequence[Option]) -> list[Option]:
    """Leave out an option when another changes only what it changes, takes no longer and loses no more."""

    def better(a: Option, b: Option) -> bool:
        within = a.claims <= b.claims
        return within and a.seconds <= b.seconds and a.loss <= b.loss and (a.seconds, a.loss, a.claims) != (b.seconds, b.loss, b.claims)

    return [option for option in options if not any(better(other, option) for other in options)]


def claims(graph: Graph, edit: Edit, edited: Graph) -> frozenset[str]:
    """Return what an edit takes for itself: the inputs and outputs of the layers it changes, and the channels it removes."""
    if edit.kind == "input":
        return frozenset({"images"})
    if edit.kind != "prune":
        names = {node.name for node in graph if changed(graph, edited, node.name)}
        return frozenset(f"{side} {name}" for name in names for side in ("in", "out"))
    channels = trace(graph)
    numbers: Any = edit.settings["channels"]
    gone = {channels.root(int(channels.outputs[edit.node][number])) for number in numbers}
    found = {f"unit {unit}" for unit in gone}
    found |= {f"out {name}" for name, ids in channels.outputs.items() if gone & set(map(int, channels.roots(ids)))}
    found |= {f"in {name}" for name, _, units in channels.reads if gone & set(map(int, channels.roots(units.ids)))}
    return frozenset(found)


def changed(graph: Graph, edited: Graph, name: str) -> bool:
    """Tell whether a node is gone, or reads other weights."""
    after = next((node for node in edited if node.name == name), None)
    if after is None:
        return True
    before = graph.node(name)
    old, new = ([graph_.weights[w] for w in node.inputs if w in graph_.weights] for graph_, node in ((graph, before), (edited, after)))
    return after.op != before.op or len(old) != len(new) or any(not np.may_share_memory(a, b) for a, b in zip(old, new, strict=True))


def choose(graph: Graph, options: Sequence[Option], price: Price, *, target_s: float) -> Choice | None:
    """Return the edits of least loss with which the network is predicted to take at most ``target_s``; None when none are so quick.

    Edits that meet in a layer, such as pruning before and after it, save more or less together than alone: the network with all of them is
    priced, and the program is solved again for what is missing.
    """
    if target_s <= 0:
        raise UsageError(f"target_s is {target_s}; a time must be positive")
    before, aim = price(graph), target_s
    for _ in range(ATTEMPTS):
        chosen = solve(options, before, target_s=aim)
        if chosen is None:
            return None
        choice = made(graph, chosen, price)
        if choice.seconds <= target_s * (1 + GAP):
            return choice
        aim -= choice.seconds - target_s
    return None


def spend(graph: Graph, options: Sequence[Option], price: Price, *, loss: float) -> Choice:
    """Return the edits that save most time and lose at most ``loss`` in all; none where every one loses more."""
    return made(graph, solve(options, price(graph), loss=loss) or [], price)


def made(graph: Graph, options: Iterable[Option], price: Price) -> Choice:
    """Return the network with all edits, blocks and channels first; an edit that then finds nothing left to change is not made."""
    rank = {kind: number for number, kind in enumerate(ORDER)}
    kept = []
    edited = graph
    for option in sorted(options, key=lambda option: rank.get(option.edit.kind, len(ORDER))):
        try:
            edited = apply(edited, [option.edit])
        except (UsageError, UnsupportedError):
            continue
        kept.append(option)
    return Choice(tuple(kept), edited, price(edited), sum(option.loss for option in kept))


def solve(options: Sequence[Option], before: float, *, target_s: float | None = None, loss: float | None = None) -> list[Option] | None:
    """Return the best set of options of which no two claim the same, None when there is none; give ``target_s`` or ``loss``.

    A knapsack whose items exclude each other, solved by HiGHS branch and bound to within ``GAP``.
    References: Yao et al. 2021, HAWQ-V3, arXiv:2011.10680, section 3.4 (layers chosen by measured time and sensitivity).
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    from convsmith.precision.allocation import silent

    saved, lost = np.array([before - option.seconds for option in options]), np.array([option.loss for option in options])
    if target_s is not None and target_s >= before:
        return []
    if not options:
        return None if target_s is not None else []
    holders: dict[str, list[int]] = {}
    for number, option in enumerate(options):
        for claim in option.claims:
            holders.setdefault(claim, []).append(number)
    cliques = sorted({tuple(numbers) for numbers in holders.values() if len(numbers) > 1})
    rows, columns = [r for r, clique in enumerate(cliques) for _ in clique], [c for clique in cliques for c in clique]
    constraints = []
    if cliques:
        constraints.append(
            LinearConstraint(coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(cliques), len(options))), -np.inf, 1)
        )
    # the solver's tolerances are absolute: everything is brought near one
    if target_s is not None:
        need = before - target_s
        constraints.append(LinearConstraint(saved[None] / need, 1.0, np.inf))
        objective = lost / max(float(lost.max()), 1e-300)
    else:
        most = max(float(loss or 0.0), 1e-300)
        constraints.append(LinearConstraint(np.minimum(lost / most, 1e6)[None], -np.inf, 1.0))
        objective = -saved / max(float(saved.max()), 1e-300)
    with silent():
        found = milp(
            objective, constraints=constraints, integrality=np.ones(len(options)), bounds=Bounds(0, 1),
            options={"mip_rel_gap": GAP, "time_limit": SECONDS},
        )  # fmt: skip
    return None if found.x is None else [option for option, taken in zip(options, found.x, strict=True) if taken > 0.5]

"""Which format for which tensor: the cheapest assignment whose noise stays within a budget, as an exact integer program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from convsmith.errors import UsageError

GAP: Final = 1e-4
"""Part by which the cost may exceed the least that is possible."""

SECONDS: Final = 20.0
"""Time after which the best assignment so far is taken."""


@dataclass(frozen=True)
class Item:
    """One tensor: the noise and the cost of each of its options."""

    name: str
    noise: tuple[float, ...]
    cost: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """A cost that depends on the options of two items together, ``cost[i][j]``: the products of a weight and an activation."""

    first: str
    second: str
    cost: tuple[tuple[float, ...], ...]


def allocate(items: Sequence[Item], pairs: Sequence[Pair] = (), *, noise: float) -> dict[str, int] | None:
    """Return the option of each item with the least cost whose noise adds up to at most ``noise``, None when there is none.

    A multiple-choice knapsack, solved by HiGHS branch and bound to within ``GAP``. Pairs are made linear: a variable for each two
    options that is chosen when both are.

    Raises: ``UsageError`` for a pair of unknown items.
    References: Yao et al. 2021, HAWQ-V3, arXiv 2011.10680, section 3.4.
    """
    return _solve(items, pairs, lambda least: (least.cost, least.noise, noise))


def spend(items: Sequence[Item], pairs: Sequence[Pair] = (), *, cost: float) -> dict[str, int] | None:
    """Return the option of each item with the least noise whose cost adds up to at most ``cost``, None when there is none."""
    return _solve(items, pairs, lambda least: (least.noise, least.cost, cost))


@dataclass(frozen=True)
class _Program:
    """The columns of the integer program: items one after the other, then pairs; their cost and noise."""

    cost: np.ndarray
    noise: np.ndarray


def _solve(
    items: Sequence[Item], pairs: Sequence[Pair], aim: Callable[[_Program], tuple[np.ndarray, np.ndarray, float]]
) -> dict[str, int] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    start: dict[str, int] = {}
    columns = 0
    for item in items:
        start[item.name] = columns
        columns += len(item.cost)
    whole = columns
    sizes = {item.name: len(item.cost) for item in items}
    cost, noise = [c for item in items for c in item.cost], [v for item in items for v in item.noise]
    entries: list[tuple[int, int, float]] = []
    equal: list[float] = []
    for item in items:
        entries += [(len(equal), start[item.name] + option, 1.0) for option in range(sizes[item.name])]
        equal.append(1.0)
    for pair in pairs:
        _require(pair, sizes)
        rows, wide = sizes[pair.first], sizes[pair.second]
        for i in range(rows):
            entries += [(len(equal), columns + i * wide + j, 1.0) for j in range(wide)] + [(len(equal), start[pair.first] + i, -1.0)]
            equal.append(0.0)
        for j in range(wide):
            entries += [(len(equal), columns + i * wide + j, 1.0) for i in range(rows)] + [(len(equal), start[pair.second] + j, -1.0)]
            equal.append(0.0)
        cost += [c for row in pair.cost for c in row]
        noise += [0.0] * (rows * wide)
        columns += rows * wide
    objective, limited, limit = aim(_Program(np.array(cost), np.array(noise)))
    # the solver's tolerances are absolute: everything is brought near one
    scale, size = max(float(np.abs(objective).max()), 1e-300), max(abs(limit), 1e-300)
    row, column, value = (np.array(part) for part in zip(*entries, strict=True))
    chosen = LinearConstraint(coo_array((value, (row, column)), shape=(len(equal), columns)), equal, equal)
    within = LinearConstraint(np.minimum(limited / size, 1e6)[None, :], -np.inf, limit / size)
    integral = (np.arange(columns) < whole).astype(int)
    options = {"mip_rel_gap": GAP, "time_limit": SECONDS}
    with silent():
        found = milp(objective / scale, constraints=[chosen, within], integrality=integral, bounds=Bounds(0, 1), options=options)
    if found.x is None:
        return None
    return {name: int(np.argmax(found.x[first : first + sizes[name]])) for name, first in start.items()}


@contextmanager
def silent() -> Iterator[None]:
    """Send the process's standard output nowhere: HiGHS as in SciPy 1.17 prints lines of debugging, which would spoil JSON on it."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _require(pair: Pair, sizes: Mapping[str, int]) -> None:
    for name in (pair.first, pair.second):
        if name not in sizes:
            raise UsageError(f"a pair speaks of {name!r}, which is no item; there are {', '.join(sizes)}")
    if (len(pair.cost), len(pair.cost[0])) != (sizes[pair.first], sizes[pair.second]):
        raise UsageError(f"the pair of {pair.first!r} and {pair.second!r} needs a cost for each of their options")


def total(chosen: Mapping[str, int], items: Sequence[Item], pairs: Sequence[Pair] = ()) -> tuple[float, float]:
    """Return the cost and the noise of an assignment."""
    cost = sum(item.cost[chosen[item.name]] for item in items)
    cost += sum(pair.cost[chosen[pair.first]][chosen[pair.second]] for pair in pairs)
    return cost, sum(item.noise[chosen[item.name]] for item in items)

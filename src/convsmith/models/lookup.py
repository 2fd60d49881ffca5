"""Names of the zoo: list, find, add, and the check of the input size."""

from __future__ import annotations

from convsmith.errors import UsageError, near
from convsmith.models.entry import Entry
from convsmith.models.zoo import ZOO


def names() -> dict[str, tuple[str, ...]]:
    """Return the names of the zoo grouped by family, in the order of `ZOO`."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name, entry in ZOO.items():
        grouped[entry.family] = (*grouped.get(entry.family, ()), name)
    return grouped


def register(name: str, entry: Entry) -> None:
    """Add an architecture of your own; a name that exists is refused."""
    if name in ZOO:
        raise UsageError(f"the zoo has {name!r} already; choose another name")
    ZOO[name] = entry


def find(name: str) -> Entry:
    """Return the entry of that name; `UsageError` lists the zoo and the nearest name when there is none."""
    if name not in ZOO:
        allowed = ", ".join(ZOO)
        raise UsageError(f"no model {name!r}.{near(name, ZOO)} Allowed are {allowed}, and timm/<name> with the extra 'zoo'")
    return ZOO[name]


def check_size(name: str, entry: Entry, input_size: tuple[int, int]) -> None:
    """Raise `UsageError` when the input is smaller than the network can halve."""
    height, width = input_size
    if min(height, width) < entry.smallest:
        instead = "; use smallnet" if min(height, width) >= ZOO["smallnet"].smallest and name != "smallnet" else "; use logistic or mlp"
        raise UsageError(f"{name} needs at least {entry.smallest}x{entry.smallest}, got {height}x{width}{instead}")

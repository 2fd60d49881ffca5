"""The kinds of edit that there are, by name; one file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convsmith.errors import UsageError, near
from convsmith.graph import Graph
from convsmith.redesign import (
    bottleneck,
    branches,
    canonical,
    dead,
    fold,
    input_size,
    low_rank,
    pruning,
    separable,
    sequences,
    skipping,
    spatial,
    stacking,
    subsampling,
    tucker,
)
from convsmith.redesign.edit import Edit


@dataclass(frozen=True)
class Kind:
    """``apply`` makes the changed graph, ``propose`` the edits worth trying on one; ``exact``: the network computes what it did."""

    apply: Callable[[Graph, Edit], Graph]
    propose: Callable[[Graph], list[Edit]]
    help: str
    exact: bool = False


KINDS: dict[str, Kind] = {
    "fold": Kind(fold.apply, fold.propose, "batch normalisation into the layer before it", exact=True),
    "dead": Kind(dead.apply, dead.propose, "layers and channels that compute nothing go", exact=True),
    "merge": Kind(branches.apply, branches.propose, "parallel branches of one input become one convolution", exact=True),
    "join": Kind(sequences.apply, sequences.propose, "two convolutions with nothing between them become one", exact=True),
    "shortcut": Kind(subsampling.apply, subsampling.propose, "channels padded with zeros become a 1x1 convolution", exact=True),
    "stack": Kind(stacking.apply, stacking.propose, "a large kernel becomes a stack of 3x3"),
    "spatial": Kind(spatial.apply, spatial.propose, "a kernel becomes columns, then rows"),
    "tucker": Kind(tucker.apply, tucker.propose, "1x1, a core with the old kernel, 1x1"),
    "bottleneck": Kind(bottleneck.apply, bottleneck.propose, "1x1, the old kernel at one smaller width, 1x1"),
    "cp": Kind(canonical.apply, canonical.propose, "1x1, depthwise, 1x1"),
    "separable": Kind(separable.apply, separable.propose, "depthwise, 1x1"),
    "low_rank": Kind(low_rank.apply, low_rank.propose, "a dense layer or 1x1 convolution becomes two"),
    "prune": Kind(pruning.apply, pruning.propose, "channels go, with all that is tied to them"),
    "skip": Kind(skipping.apply, skipping.propose, "a residual block goes"),
    "input": Kind(input_size.apply, input_size.propose, "smaller images"),
}


def find(name: str) -> Kind:
    """Return the kind of that name; ``UsageError`` with the nearest otherwise."""
    if name not in KINDS:
        raise UsageError(f"there is no edit of kind {name!r}; there are {', '.join(KINDS)}.{near(name, KINDS)}")
    return KINDS[name]

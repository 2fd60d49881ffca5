"""Networks with a changed architecture: edits of least loss for parts of the time, healed by training, then brought to codes.

Edits are chosen by what layers of codes cost, since that is what will run: an edit that saves float32 time may save nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from convsmith.compiler import Timing
from convsmith.errors import UsageError
from convsmith.jobs.edit_search import APPROXIMATE, EditSearch, Material
from convsmith.jobs.healing import RATE, heal
from convsmith.jobs.shrinking.plans import Tell, coded
from convsmith.jobs.shrinking.workshop import Made, Workshop

if TYPE_CHECKING:
    from convsmith.compiler import Program
    from convsmith.graph.network import Graph

SHARES: Final = (0.85, 0.7, 0.5)
"""Parts of the time of the network in codes that edits aim at, easiest first."""

QUICK_KINDS: Final = ("prune", "skip", "tucker")
"""Edits of a search of less than `LONG_S`: those that save most in codes, and are weighed fastest."""

KINDS: Final = tuple(kind for kind in APPROXIMATE if kind != "input")
"""Smaller images are another preprocessing; the points of a frontier read the same."""

LONG_S: Final = 600.0

LEAST_S: Final = 120.0
"""Seconds without which no edits are tried: weighing them takes about a minute for a small network."""

HEALING_SHARE: Final = 0.7
"""Part of the time that is left for one network that its healing may take; codes, tuning and measuring need the rest."""

CALLS: Final = 200
MOST_EPOCHS: Final = 60.0


class CodeTiming(Timing):
    """Times layers as 8-bit codes; what makes codes of the image counts to the layer that reads them."""

    def program(self, graph: Graph) -> Program:
        return super().program(in_codes(graph))

    def layers(self, graph: Graph) -> dict[str, float]:
        times: dict[str, float] = {}
        own = {node.name for node in graph}
        makers = {output: node.name for node in graph for output in node.outputs}
        first = graph.nodes[0].name
        for name, seconds in super().layers(graph).items():
            value = max((value for value in makers if name.startswith(f"{value}.")), key=len, default="")
            place = name if name in own else makers.get(value, first)
            times[place] = times.get(place, 0.0) + seconds
        return times

    @property
    def key(self) -> str:
        return f"{super().key} | int8"


def in_codes(graph: Graph) -> Graph:
    """Return a graph in 8-bit codes of ranges from -1 to 1: right in everything but its numbers."""
    import numpy as np

    from convsmith import precision
    from convsmith.precision.calibration import Range, Ranges
    from convsmith.redesign import fold_batch_norm

    folded = fold_batch_norm(graph)
    seen = Range(-1.0, 1.0, np.zeros(0, np.float32))
    ranges = Ranges({t.tensor: seen for t in precision.tensors(folded) if t.role == "activation"}, 1)
    return precision.quantise(folded, precision.candidate("int8", precision.layout(folded)).plan, ranges)


@dataclass
class Editing:
    """The edits of one network, weighed when first asked for. ``deadline``: when all must be done, by the monotonic clock."""

    shop: Workshop
    deadline: float
    seed: int
    tell: Tell
    kinds: tuple[str, ...] = KINDS
    waiting: int = field(default=len(SHARES), init=False)

    @cached_property
    def search(self) -> EditSearch:
        from convsmith.jobs import sources

        shop = self.shop
        seen = sources.pixels(shop.dataset.train, shop.network.preprocess, sources.CALIBRATION_IMAGES, shop.workers)
        timing = CodeTiming(threads=shop.threads, tune_s=shop.tune_s)
        progress: Callable[[float, float, str], Any] = lambda done, total, edit: self.tell(int(done), int(total), edit)  # noqa: E731
        return EditSearch(shop.folded, Material(*seen, shop.x, shop.labels), timing, self.kinds, "auto", progress)

    def at(self, name: str, share: float) -> Made | None:
        """Return the network for a part of the time in codes; None where no edits are so quick."""
        choice = self.search.at(share * self.search.before_s)
        left = max(0.0, self.deadline - time.monotonic()) / max(1, self.waiting)
        self.waiting -= 1
        if choice is None or not choice.edits:
            return None
        corrected = self.search.corrected(choice.graph)
        healed = self.healed(corrected, HEALING_SHARE * left)
        better = max((corrected, healed), key=lambda graph: self.search.score(graph).accuracy)
        edits = (*self.search.exact, *choice.edits)
        return coded(self.shop, better, name, edits=edits, predicted_share=self.predicted_share(choice.graph), tell=self.tell)

    def predicted_share(self, graph: Graph) -> float:
        """Return the time of one call, from the prices of layers, as a part of that of the original in codes."""
        whole_s, call_s = self.original_s
        return (call_s + self.search.price(graph) * whole_s / self.search.before_s) / (call_s + whole_s)

    @cached_property
    def original_s(self) -> tuple[float, float]:
        """What the original takes in codes now, and what a call of it costs beside."""
        return whole_and_call(self.search.timing, self.shop.folded)

    def healed(self, graph: Graph, seconds: float) -> Graph:
        """Train an edited network for a while, taught by the original, with the augmentation that this was trained with."""
        shop = self.shop
        if seconds < 1 or not len(shop.dataset.train):
            return graph
        own = {"learning_rate": RATE, "distil": 0.8, "seed": self.seed, "epochs": MOST_EPOCHS, "time_s": seconds}
        return heal(graph, shop.network, shop.dataset, shop.network.preprocess, own, progress=shop.record.progress)


def whole_and_call(timing: Timing, graph: Graph) -> tuple[float, float]:
    """Return what a network of one image takes, from layer to layer without a clock between them, and what a call from Python adds."""
    import numpy as np

    whole_s, program = timing.whole(graph), timing.program(graph)
    x, samples = np.zeros((1, *graph.inputs[0].shape[1:]), np.float32), []
    for _ in range(CALLS):
        begun = time.perf_counter()
        program(x)
        samples.append(time.perf_counter() - begun)
    return whole_s, max(0.0, float(np.median(samples)) - whole_s)


def edited(shop: Workshop, deadline: float, seed: int, tell: Tell) -> Iterator[tuple[str, Callable[[], Made | None]]]:
    """Yield name and maker of the network for each part of the time; none where the time is too short, or nothing can be edited."""
    left = deadline - time.monotonic()
    if left < LEAST_S:
        return
    editing = Editing(shop, deadline, seed, tell, KINDS if left >= LONG_S else QUICK_KINDS)
    for share in SHARES:
        name = f"int8, {share:g} of the time"
        yield name, lambda name=name, share=share: attempted(editing, name, share)  # type: ignore[misc]


def attempted(editing: Editing, name: str, share: float) -> Made | None:
    """Return the network, None where its graph cannot be edited."""
    try:
        return editing.at(name, share)
    except UsageError:
        return None

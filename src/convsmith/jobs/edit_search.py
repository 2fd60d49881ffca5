"""The search for edits of a trained network: exact ones first, then those of least loss for their measured time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from convsmith import compiler, redesign
from convsmith.analysis import analyse
from convsmith.redesign.noise import answer_noise

if TYPE_CHECKING:
    from convsmith.data.preprocess import Preprocess
    from convsmith.graph.network import Graph
    from convsmith.precision.scoring import Score

EXACT: Final = ("dead", "merge", "join", "shortcut")
"""Edits that leave the function as it is, in the order in which they are tried."""

APPROXIMATE: Final = tuple(name for name, kind in redesign.KINDS.items() if not kind.exact)

Estimate = Literal["auto", "output", "taylor"]
Progress = Callable[[float, float, str], Any]

OUTPUT_MACS: Final = 3e12
"""Multiplications up to which every edit is run on the calibration images; beyond, one backward pass estimates all."""

BATCH: Final = 64


@dataclass(frozen=True)
class Material:
    """Images as the network reads them: ``calibration`` with labels for losses and corrections, ``x`` with labels for accuracy."""

    calibration: NDArray[np.float32]
    calibration_labels: NDArray[np.int64]
    x: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass
class EditSearch:
    """Weighs the edits of one network, once, and chooses among them as often as asked.

    ``timing``: what is measured, remembered between runs for this machine. ``kinds``: edits to try, all by default. ``remembering``:
    wraps the estimate of losses, to keep them. Edits are weighed when first needed; exact ones are made at once.
    """

    original: Graph
    material: Material
    timing: compiler.Timing = field(default_factory=compiler.Timing)
    kinds: Sequence[str] = ()
    estimate: Estimate = "auto"
    progress: Progress = lambda done, total, edit: None
    remembering: Callable[[redesign.selection.Loss], redesign.selection.Loss] = lambda estimate: estimate
    exact: list[redesign.Edit] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        known, remember = compiler.recall_prices(self.timing), partial(compiler.remember_prices, self.timing)
        self.price = redesign.PriceList(self.timing.layers, batch=self.timing.batch, known=known, remember=remember)
        self.price.refresh(self.original)
        self.before_s = self.price(self.original)
        self.graph = self._tidied()

    @cached_property
    def options(self) -> list[redesign.Option]:
        """Edits with their times and losses, weighed once."""
        edits = self.proposals()
        return redesign.weigh(self.graph, edits, self.price, self.remembering(self._loss(len(edits))), self._told)

    def proposals(self) -> list[redesign.Edit]:
        """Return the edits to weigh; channels ranked by what the gradient of the loss says of them."""
        from convsmith.redesign import pruning
        from convsmith.training.edit_losses import weight_gradients

        kinds = [kind for kind in (self.kinds or APPROXIMATE) if kind in APPROXIMATE]
        found = redesign.proposals(self.graph, [kind for kind in kinds if kind != "prune"]) if kinds != ["prune"] and kinds else []
        if "prune" in kinds:
            gradients = weight_gradients(self.graph, self.material.calibration, self.material.calibration_labels)
            found += pruning.propose(self.graph, "taylor", gradients)
        return found

    def at(self, target_s: float) -> redesign.Choice | None:
        """Return the edits of least loss for a time, None when none are so quick."""
        return redesign.choose(self.graph, self.options, self.price, target_s=target_s)

    def within(self, allowed: Callable[[Graph], bool], tries: int = 8) -> redesign.Choice:
        """Return the quickest choice that is allowed, by bisection on its loss; no edits when none is."""
        best = redesign.spend(self.graph, self.options, self.price, loss=0.0)
        low, high = 0.0, sum(option.loss for option in self.options)
        for attempt in range(tries if self.options else 0):
            loss = min(0.02, high / 2) if attempt == 0 else (low * high) ** 0.5 if low else high / 4
            choice = redesign.spend(self.graph, self.options, self.price, loss=loss)
            self.progress(attempt + 1, tries, f"loss {loss:.3g}")
            if allowed(choice.graph):
                best, low = (choice if choice.seconds <= best.seconds else best), loss
            else:
                high = loss
            if low and high / low < 1.1:
                break
        return best

    def corrected(self, edited: Graph) -> Graph:
        """Return an edited network with the statistics of the original."""
        from convsmith.training.correction import correct

        calibration = self.material.calibration
        if edited.inputs[0].shape != self.graph.inputs[0].shape:
            return edited
        return correct(self.graph, edited, calibration)

    def score(self, graph: Graph) -> Score:
        """Return how many images the network, compiled, gets right."""
        from convsmith.precision.scoring import Score

        return Score.of(logits_of(graph, self.material.x, self.timing.threads).argmax(1) == self.material.labels)

    def _tidied(self) -> Graph:
        """Return the network after exact edits, each kept where it is not slower."""
        graph = self.original
        for kind in EXACT if not self.kinds else [kind for kind in EXACT if kind in self.kinds]:
            for edit in redesign.proposals(graph, [kind]):
                edited = redesign.apply(graph, [edit])
                if self.price(edited) <= self.price(graph):
                    graph = edited
                    self.exact.append(edit)
        return graph

    def _loss(self, edits: int) -> redesign.selection.Loss:
        """Return what estimates losses: the network run with each edit, or one backward pass where that takes too long."""
        from convsmith.training.edit_losses import EditLosses

        calibration = self.material.calibration
        before = logits_of(self.graph, calibration, self.timing.threads)

        def by_output(edit: redesign.Edit, edited: Graph) -> float:
            return answer_noise(before, logits_of(edited, calibration, self.timing.threads))

        cheap = analyse(self.graph).macs * edits * len(calibration) <= OUTPUT_MACS
        if self.estimate == "output" or (self.estimate == "auto" and cheap):
            return by_output
        by_gradient = EditLosses(self.graph, calibration)
        return lambda edit, edited: (by_output if edit.kind == "input" else by_gradient)(edit, edited)

    def _told(self, done: int, total: int, edit: redesign.Edit) -> None:
        self.progress(done, total, str(edit))


def logits_of(graph: Graph, x_nchw: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """Return the scores of images by the native engine; the middle of them for a network of smaller ones."""
    program = compiler.build(graph, threads=threads or None)
    x = middle(x_nchw, graph.inputs[0].shape[2:])
    return np.concatenate([program(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]).reshape(len(x), -1)


def middle(x_nchw: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the centre of images, of that height and width."""
    top, left = ((given - wanted) // 2 for given, wanted in zip(x_nchw.shape[2:], size, strict=True))
    return np.ascontiguousarray(x_nchw[:, :, top : top + size[0], left : left + size[1]])


def smaller(preprocess: Preprocess, size: tuple[int, ...]) -> Preprocess:
    """Return the preprocessing that gives the network the centre at the old scale."""
    if size == (preprocess.height, preprocess.width):
        return preprocess
    squashed = preprocess.resize == "squash"
    before = 1.0 if squashed else preprocess.crop_fraction
    fraction = before * min(size[0] / preprocess.height, size[1] / preprocess.width)
    mode = "crop" if squashed else preprocess.resize
    return dataclasses.replace(preprocess, height=size[0], width=size[1], resize=mode, crop_fraction=fraction)

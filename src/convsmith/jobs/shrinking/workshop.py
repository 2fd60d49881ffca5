"""What every point of one run needs: its images, its float32 answers, and how a graph becomes a measured point in a run folder."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convsmith import runs
from convsmith.jobs import derived, sources, trained
from convsmith.jobs.shrinking.point import Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convsmith.compiler import Program
    from convsmith.data.dataset import Dataset
    from convsmith.graph.network import Graph
    from convsmith.precision import Plan, Score
    from convsmith.redesign import Edit

TUNE_S: Final = (0.5, 5.0)
"""Least and most seconds that the choice of algorithms may take for one network; between them a thirtieth of the search's time."""

FOLDER: Final = "shrink"


@dataclass(frozen=True)
class Made:
    """A network before it is measured. ``graph``: what runs, codes and all; ``plain``: in float32, batch norm folded, for its costs."""

    name: str
    graph: Graph
    plain: Graph
    plan: Plan
    recipe: str
    edits: tuple[Edit, ...] = ()
    predicted_share: float | None = None
    accuracy: float | None = None  # the error that algorithms may have, None for any


@dataclass
class Workshop:
    """One run under work. ``images``: how many to judge on, 0 for all; ``batch``: of the second speed."""

    network: trained.Trained
    dataset: Dataset
    record: runs.Record
    threads: int
    images: int = 0
    batch: int = 16
    workers: int = 0
    time_s: float = 1800.0
    programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from convsmith.redesign import fold_batch_norm

        self.graph = self.network.graph
        self.folded = fold_batch_norm(self.graph)
        self.part = "val" if "val" in self.dataset.splits else "test"
        split = self.dataset.splits.get("val") or self.dataset.test
        self.x, self.labels = sources.pixels(split, self.network.preprocess, self.images, self.workers)
        self.calibration = sources.pixels(self.dataset.train, self.network.preprocess, sources.CALIBRATION_IMAGES, self.workers)[0]
        self.baseline = self.score(self.program(self.graph))
        self._test: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
        self._test_baseline: Score | None = None

    @property
    def tune_s(self) -> float:
        return min(max(self.time_s / 30, TUNE_S[0]), TUNE_S[1])

    def program(self, graph: Graph, accuracy: float | None = None) -> Program:
        """Return the graph compiled, algorithms chosen by measuring."""
        from convsmith import compiler

        return compiler.build(graph, tune=self.tune_s, threads=self.threads, accuracy=accuracy)

    def score(self, program: Program) -> Score:
        """Return how often a program is right on the images of the search."""
        return scored(program, self.x, self.labels, self.batch)

    def measure(self, made: Made, begun: float) -> Point:
        """Compile, judge and time a network, keep it as a run, and return the point; times to compare are measured in turn, later."""
        from convsmith import analysis, precision
        from convsmith.compiler import profile

        program = self.programs[made.name] = self.program(made.graph, made.accuracy)
        score = self.score(program)
        compared = precision.compare(self.baseline, score)
        low, high = analysis.wilson(round(score.accuracy * score.n), score.n)
        single = made.plain.inputs[0].shape[1:]
        one, many = (profile(program, (images, *single), budget_s=0.5) for images in (1, self.batch))
        folder = self.keep(made, score)
        return Point(
            made.name, made.plan.name, made.recipe, "fastest" if made.accuracy is None else "direct sums",
            tuple(edit.to_dict() for edit in made.edits), score.accuracy, low, high, compared["drop"], compared["drop_low"],
            compared["drop_high"], score.n, 1e3 * one.total_s, 1e3 * many.total_s, self.batch, program_bytes(program),
            one.values_bytes + one.constants_bytes, energy_uj(made.plain, made.plan), analysis.analyse(made.plain).macs,
            time.monotonic() - begun, folder, made.predicted_share,
        )  # fmt: skip

    def keep(self, made: Made, score: Score) -> str:
        """Write the network as a run below the searched one and return its place."""
        place = f"{FOLDER}/{slug(made.name)}"
        path = self.record.folder / place
        clear(path)
        words = ["convsmith", "shrink", str(self.record.folder)]
        record = runs.create(path, "shrink", {"run": str(self.record.folder), "point": made.name}, data=self.dataset.name, command=words)
        derived.write(record, self.network, made.graph, plan=made.plan.name)
        record.write_json("plan.json", made.plan.to_dict())
        record.write_json("edits.json", [edit.to_dict() for edit in made.edits])
        record.finish("finished", model=self.network.name, bits=made.plan.name, val_accuracy=score.accuracy)
        return place

    def confirm(self, program: Program) -> dict[str, Any] | None:
        """Return what `compare` finds on the test images, which the search did not see; None where there are no others."""
        from convsmith import analysis, precision

        if self.part == "test" or "test" not in self.dataset.splits:
            return None
        if self._test is None:
            self._test = sources.pixels(self.dataset.test, self.network.preprocess, 0, self.workers)
            self._test_baseline = scored(self.program(self.graph), *self._test, self.batch)
        assert self._test_baseline is not None
        score = scored(program, *self._test, self.batch)
        low, high = analysis.wilson(round(score.accuracy * score.n), score.n)
        found = {"accuracy": score.accuracy, "low": low, "high": high, "baseline": self._test_baseline.accuracy}
        return found | precision.compare(self._test_baseline, score)

    def reopened(self, point: Point) -> Program:
        """Return the program of a point, compiled anew where an earlier search made it."""
        if point.name not in self.programs:
            graph = trained.load(runs.open(self.record.folder / point.folder)).graph
            self.programs[point.name] = self.program(graph, None if point.algorithms == "fastest" else DIRECT)
        return self.programs[point.name]


DIRECT: Final = 1e-12
"""An error that no transformed algorithm keeps: sums of the products themselves remain."""


def scored(program: Program, x: NDArray[np.float32], labels: NDArray[np.int64], batch: int) -> Score:
    """Return how often a program is right, always on ``batch`` images at once: algorithms are chosen for that number."""
    from convsmith.precision import Score

    filled = np.concatenate([x, np.zeros((-len(x) % batch, *x.shape[1:]), np.float32)])
    answers = np.concatenate([program(filled[start : start + batch]).argmax(1) for start in range(0, len(filled), batch)])
    return Score.of(answers[: len(x)] == labels)


def program_bytes(program: Program) -> int:
    """Return the size of the program's file."""
    with tempfile.TemporaryDirectory(prefix="convsmith-") as folder:
        path = Path(folder) / "network.program"
        program.save(path)
        return path.stat().st_size


def energy_uj(plain: Graph, plan: Plan) -> float:
    """Return the estimated energy of one image in microjoules; see ``precision.costs`` for the figures."""
    from convsmith.precision.assignment import resolve
    from convsmith.precision.choices import choices
    from convsmith.precision.costs import find_cost

    options = choices(plain)
    chosen = {a.tensor: a.rule.format for a in resolve(plan, plain) if a.rule is not None and a.role in ("weight", "activation")}
    return 1e-6 * find_cost("energy").of(options, chosen)


def slug(name: str) -> str:
    """Return a name that a folder can have."""
    return "-".join("".join(letter if letter.isalnum() or letter == "." else " " for letter in name).split())


def clear(path: Path) -> None:
    """Remove what an interrupted search left of a point's run."""
    import shutil

    if path.exists():
        shutil.rmtree(path)

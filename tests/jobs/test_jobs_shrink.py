"""`shrink`: its points are measured runs, its frontier is the one that a brute-force comparison finds, and it goes on where it was."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from convsmith import compiler, jobs
from convsmith import graph as graphs
from convsmith.errors import UsageError
from convsmith.jobs import shrink
from convsmith.jobs.shrinking.point import Limits, Point, best, frontier


def point(name: str, accuracy: float = 0.9, ms: float = 1.0, batch_ms: float = 10.0, file_bytes: int = 1000, drop: float = 0.0) -> Point:
    return Point(
        name,
        "int8",
        "max",
        "fastest",
        (),
        accuracy,
        accuracy,
        accuracy,
        drop,
        drop,
        drop,
        100,
        ms,
        batch_ms,
        16,
        file_bytes,
        1,
        1.0,
        1,
        1.0,
        "",
    )


def test_the_frontier_is_what_no_other_point_beats() -> None:
    rng = random.Random(0)
    points = [
        point(str(i), rng.choice((0.8, 0.9)), rng.choice((1.0, 2.0, 3.0)), rng.choice((4.0, 5.0)), rng.choice((6, 7))) for i in range(60)
    ]
    found = {p.name for p in frontier(points)}

    def as_good(a: Point, b: Point) -> bool:
        return a.accuracy >= b.accuracy and a.ms <= b.ms and a.batch_ms <= b.batch_ms and a.file_bytes <= b.file_bytes

    for p in points:
        beaten = any(as_good(other, p) and not as_good(p, other) for other in points)
        assert (p.name in found) != beaten


def test_limits_choose_the_quickest_that_keeps_them() -> None:
    points = [point("slow", ms=3), point("quick", ms=1, drop=0.6), point("large", ms=2, file_bytes=5_000_000), point("fit", ms=2.5)]
    assert best(points, Limits(1.0)).name == "quick"  # type: ignore[union-attr]
    assert best(points, Limits(0.5)).name == "large"  # type: ignore[union-attr]
    assert best(points, Limits(0.5, max_mb=1)).name == "fit"  # type: ignore[union-attr]
    assert best(points, Limits(0.5, max_ms=2.2, max_mb=1)) is None
    assert Limits(0.5).hold(replace(points[1], drop=0.5))
    assert Point.from_dict(json.loads(json.dumps(points[0].to_dict()))) == points[0]


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shrink") / "run"
    jobs.perform("train", {"data": "digits", "model": "smallnet", "training": {"epochs": 2, "threads": 1}}, out=folder)
    outcome = jobs.perform("shrink", {"run": str(folder), "time": "60s", "evaluations": 1, "threads": 1, "images": 150})
    return folder, dict(outcome.result)


def test_every_point_is_what_it_says(shrunk: tuple[Path, dict[str, Any]]) -> None:
    folder, result = shrunk
    points = {row["name"]: row for row in result["points"]}
    assert {"float32", "int8", "bf16 weights"} <= set(points)
    for row in points.values():
        interval = binomtest(round(row["accuracy"] * row["n"]), row["n"]).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
        graph = graphs.load(folder / row["folder"] / "network.safetensors")
        program = compiler.build(graph, threads=1)
        program.save(folder / "again.program")
        assert row["file_bytes"] == pytest.approx((folder / "again.program").stat().st_size, rel=0.05)  # decisions of the tuner aside
        weights = sum(array.nbytes for array in graph.weights.values())
        assert row["memory_bytes"] > 0.9 * weights and row["ms"] > 0 and row["batch_ms"] > row["ms"]
    assert points["int8"]["file_bytes"] < 0.4 * points["float32"]["file_bytes"]
    assert points["bf16 weights"]["file_bytes"] < 0.6 * points["float32"]["file_bytes"]
    # Horowitz 2014: 8-bit products cost 0.2 + 0.1 pJ and more, float32 ones 3.7 + 0.9 pJ; memory a quarter
    assert 4 < points["float32"]["energy_uj"] / points["int8"]["energy_uj"] < 4.6 / 0.3
    shown = [row for row in points.values() if row["frontier"]]
    assert all(row["test"]["n"] == 359 for row in shown) and points[result["chosen"]] in shown


def test_a_point_evaluates_as_it_was_confirmed_and_exports(shrunk: tuple[Path, dict[str, Any]]) -> None:
    folder, result = shrunk
    row = next(row for row in result["points"] if row["name"] == "int8")
    place = str(folder / row["folder"])
    if row["test"]:
        assert jobs.perform("eval", {"run": place}).result["top1"] == row["test"]["accuracy"]
    assert jobs.perform("export", {"run": place, "to": "native", "images": 50}).result["parity"]["different"] == 0


def test_the_page_shows_the_frontier(shrunk: tuple[Path, dict[str, Any]]) -> None:
    folder, result = shrunk
    page = (folder / "report.html").read_text()
    assert "The quickest network within the limits (0.5 points of accuracy lost)" in page
    for row in result["points"]:
        assert f'data-name="{row["name"]}"' in page
    text = shrink.lines(result)
    assert f"* {result['chosen']}" in text and f"convsmith export {result['folder']} --to native" in text


@pytest.mark.slow
def test_a_search_that_was_cut_short_goes_on(shrunk: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    from convsmith.jobs.shrinking.workshop import Workshop

    folder, _ = shrunk
    made: list[str] = []
    measure = Workshop.measure

    def cut(self: Workshop, thing: Any, begun: float) -> Point:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(thing.name)
        return measure(self, thing, begun)

    settings = {"run": str(folder), "time": "60s", "evaluations": 1, "threads": 1, "images": 100}
    monkeypatch.setattr(Workshop, "measure", cut)
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("shrink", settings)
    assert made == ["float32", "int8"]
    monkeypatch.setattr(Workshop, "measure", lambda self, thing, begun: made.append(thing.name) or measure(self, thing, begun))
    result = jobs.perform("shrink", settings).result
    assert len(made) == len(set(made)) == len(result["points"])
    assert not (folder / "shrink_points.json").exists()


def test_a_network_of_codes_is_refused(shrunk: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="is a network of codes already; shrink the run it was made from"):
        jobs.perform("shrink", {"run": str(shrunk[0] / "shrink" / "int8")})


def test_the_chart_steps_along_the_best() -> None:
    from convsmith.report.charts import Option, frontier_chart

    options = [Option("a", "x", 1.0, 0.8), Option("b", "y", 2.0, 0.9), Option("b", "z", 3.0, 0.85)]
    svg = str(frontier_chart(options, options[:2], x_label="ms", y_label="accuracy", label="chart"))
    (line,) = [part for part in svg.split("<") if part.startswith("polyline")]
    corners = np.array([[float(n) for n in pair.split(",")] for pair in line.split('points="')[1].split('"')[0].split()])
    assert len(corners) == 3 and corners[0, 1] == corners[1, 1] and corners[1, 0] == corners[2, 0] and corners[2, 1] < corners[1, 1]
    assert frontier_chart([], [], x_label="", y_label="", label="") == ""

"""Curves keep their extremes when they are thinned, and files are read as they grow."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from convsmith.runs.reader import objects
from convsmith.runs.record import Kept
from convsmith.studio import curves


@given(st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), max_size=300), st.integers(4, 60))
def test_thinning_keeps_ends_and_extremes(y: list[float], most: int) -> None:
    x = list(range(len(y)))
    chosen = curves.thin(x, y, most)
    real = [index for index, value in enumerate(y) if value == value]
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(real)
    assert len(chosen) <= max(most, 0) or len(real) <= most
    if real:
        assert chosen[0] == real[0] and chosen[-1] == real[-1]
        assert min(y[index] for index in chosen) == min(y[index] for index in real)
        assert max(y[index] for index in chosen) == max(y[index] for index in real)


def test_a_single_spike_among_many_points_is_drawn() -> None:
    y = [0.0] * 100_000
    y[54_321] = 1.0
    chosen = curves.thin(range(len(y)), y, 100)
    assert 54_321 in chosen and len(chosen) <= 100


def test_lines_are_read_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert curves.read_lines(path, 5) == curves.Read((), 0)
    path.write_bytes(b'{"a": 1}\n{"b"')
    first = curves.read_lines(path)
    assert first == curves.Read(('{"a": 1}',), 9)
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n')
    assert curves.read_lines(path, first.offset) == curves.Read(('{"b": 2}',), 18)
    assert curves.read_lines(path, 99).lines == ('{"a": 1}', '{"b": 2}'), "a file that began anew is read anew"
    assert list(objects(["[1]", "nonsense", '{"c": 3}', ""])) == [{"c": 3}]


def test_a_resumed_epoch_counts_once_and_the_later_best_wins(tmp_path: Path) -> None:
    rows = [(1, 0.5), (2, 0.9), (2, 0.8), (3, 0.8)]
    lines = [{"kind": "epoch", "epoch": epoch, "val_accuracy": accuracy} for epoch, accuracy in rows]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = curves.of_run(tmp_path)
    assert found["series"]["val_accuracy"] == {"x": [1.0, 2.0, 3.0], "y": [0.5, 0.8, 0.8]}
    assert found["best"] == {"epoch": 3.0, "accuracy": 0.8} and found["series"]["loss"] == {"x": [], "y": []}


def test_the_time_left_is_told_at_the_mean_pace() -> None:
    lines = [
        {"time": f"2026-01-01T00:00:{second:02d}+00:00", "stage": "train", "done": done, "total": 100}
        for second, done in ((0, 10), (10, 30), (20, 50))
    ]
    assert curves.remaining_s(lines) == 25.0
    assert curves.remaining_s(lines[:1]) is None and curves.remaining_s([]) is None
    assert curves.remaining_s([lines[2], {**lines[0], "done": 60}]) is None, "a clock that was set back tells nothing"


def test_progress_is_kept_now_and_then_with_the_ends_of_a_stage(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "progress.jsonl")
    for done in range(1, 1001):
        kept("train", done, 1000, {"loss": 1 / done})
    kept("test", 1, 10, {})
    told = list(objects((tmp_path / "progress.jsonl").read_text().splitlines()))
    assert [(line["stage"], line["done"]) for line in told] == [("train", 1), ("train", 1000), ("test", 1)]
    Kept(tmp_path / "absent" / "progress.jsonl")("train", 1, 2, {})

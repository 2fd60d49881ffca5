"""``convsmith runs``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convsmith import runs

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]


def make(data: str, right: list[bool], **config: object) -> Path:
    made = runs.create(None, "train", config, data=data)
    made.write_predictions([[float(good), float(not good)] for good in right], [0] * len(right), [f"{i}.png" for i in range(len(right))])
    made.finish(top1=sum(right) / len(right), model="smallnet")
    return made.folder


def test_list_and_show(call: Call, call_json: CallJson) -> None:
    code, out, _ = call("runs", "list")
    assert code == 0 and out.startswith("There is no run in ")
    folder = make("digits", [True, False], seed=3)
    code, out, _ = call("runs", "list")
    assert code == 0 and folder.name in out and "50.00 %" in out and "finished" in out
    code, found = call_json("runs", "list")
    assert [run["name"] for run in found["result"]["runs"]] == [folder.name]
    code, out, _ = call("runs", "show", "last")
    assert code == 0 and "seed: 3" in out and "predictions.npz" in out
    code, found = call_json("runs", "show", folder.name)
    assert found["result"]["status"] == "finished" and found["result"]["config"] == {"seed": 3}


def test_a_run_of_another_version_is_listed_and_refused(call: Call, runs_root: Path) -> None:
    (runs_root / "future").mkdir(parents=True)
    (runs_root / "future" / "run.json").write_text('{"schema": 99, "versions": {"convsmith": "9.0"}}')
    code, out, _ = call("runs", "list")
    assert code == 0 and "unreadable" in out and "written by convsmith 9.0" in out
    code, _, err = call("runs", "show", "future")
    assert code == 2 and "has run schema 99" in err


def test_compare_tells_both_and_the_test(call: Call, call_json: CallJson) -> None:
    a = make("digits", [True] * 30 + [False] * 10, seed=1)
    b = make("digits", [True] * 40, seed=2)
    code, out, _ = call("runs", "compare", a, b)
    assert code == 0 and "75.00 %" in out and "100.00 %" in out and "seed" in out
    # ten images that only b has right: two-sided exact p = 2 / 2^10
    assert "p = 0.001953 (exact)" in out and "is better than" in out
    code, found = call_json("runs", "compare", a, b)
    assert found["result"]["paired"]["only_b"] == 10 and found["result"]["differences"] == {"seed": [1, 2]}


def test_rm_asks_and_takes_runs_only(call: Call, call_json: CallJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make("digits", [True])
    code, _, err = call("runs", "rm", folder.name)
    assert code == 2 and f"this would delete {folder}; add --yes to do it" in err and folder.exists()

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, _, err = call("runs", "rm", folder.name)
    assert code == 2 and "for good? [y/N]" in err and "nothing was removed" in err and folder.exists()
    code, found = call_json("runs", "rm", folder.name, "--yes")
    assert code == 0 and found["result"]["removed"] == [str(folder)] and not folder.exists()
    (tmp_path / "photos").mkdir()
    code, _, err = call("runs", "rm", tmp_path / "photos", "--yes")
    assert code == 2 and "is not a run" in err and (tmp_path / "photos").exists()
    code, _, err = call("runs", "rm")
    assert code == 2 and "no run given" in err

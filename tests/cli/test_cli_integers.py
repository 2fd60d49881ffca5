"""A plan of 8-bit integers on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, dict[str, Any]]]


def test_a_plan_makes_an_integer_program(call: Call, call_json: CallJson, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "int8.program"
    code, found = call_json("export", trained, "--to", "native", "--plan", "int8", "--out", file)
    assert code == 0 and found["result"]["parity"]["passed"]
    assert found["result"]["plan"] == "int8" and found["result"]["same_class"] > 0.97
    code, _, err = call("export", trained, "--plan", "int8", "--out", tmp_path / "int8.onnx")
    assert code == 2 and "--plan is for --to qdq, qonnx, native, not 'onnx'" in err
    code, _, err = call("export", trained, "--to", "native", "--plan", "intt8", "--out", tmp_path / "other.program")
    assert code == 2 and "'intt8' is neither a file of a plan nor a number format such as int8" in err
    code, found = call_json("bench", trained, "--plan", "int8", "--rounds", 7, "--batches", 1)
    assert code == 0 and "convsmith int8" in {row["runtime"] for row in found["result"]["rows"]}

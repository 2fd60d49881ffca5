"""Measuring files: a program with images inside, a bare one, and what its steps take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convsmith import compiler, jobs, models, precision, targets
from convsmith.compiler.choices import Choice, layer_key
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.interop import pytorch
from convsmith.jobs import bench
from convsmith.kernels import convolution_shape
from convsmith.redesign import fold_batch_norm

PREPROCESS = Preprocess(height=20, width=24, channels=3)


def graph():
    torch.manual_seed(0)
    return pytorch.read(models.load("smallnet", classes=3, in_channels=3, input_size=(20, 24)).eval(), (1, 3, 20, 24))


def measured(path: Path, **more: object) -> dict:
    return jobs.perform("bench", {"run": str(path), "batches": (1, 2), "rounds": 7, "threads": 1, **more}).result


def names(result: dict) -> list[str]:
    return sorted({row["runtime"] for row in result["rows"]})


def test_a_program_is_measured_whole_and_bare_beside_other_runtimes(tmp_path: Path) -> None:
    targets.export(graph(), PREPROCESS, ("a", "b", "c"), tmp_path / "m.program", target="native")
    result = measured(tmp_path / "m.program", profile=True)
    assert set(names(result)) >= {"convsmith", "native, whole file", "onnxruntime"} and result["image_size"] == [20, 24]
    assert all(row["median_s"] > 0 for row in result["rows"])
    program = compiler.load(tmp_path / "m.program", threads=1)
    for batch, profile in zip((1, 2), result["profile"], strict=True):
        steps = program.executable((batch, 3, 20, 24)).steps
        assert [step["node"] for step in profile["steps"]] == list(dict.fromkeys(step.node for step in steps))
        assert {step["node"]: step["algorithm"] for step in profile["steps"] if step["algorithm"]} == {
            step.node: step.algorithm for step in steps if step.algorithm
        }
    text = bench.lines(result)
    assert "native, whole file" in text and "batch 2: " in text and "Gop/s" in text


def test_a_bare_program_has_rows_of_its_network_only(tmp_path: Path) -> None:
    compiler.build(graph()).save(tmp_path / "bare.program")
    result = measured(tmp_path / "bare.program")
    assert "convsmith" in names(result) and not any("whole file" in name for name in names(result))
    assert "profile" not in result


def test_the_decisions_of_the_file_are_what_is_measured(tmp_path: Path) -> None:
    program = compiler.build(graph(), threads=1)
    first = next(node for node in program.graph if node.op == "Conv")
    w = program.graph.weights[first.inputs[1]]
    shape = convolution_shape((1, 3, 20, 24), w.shape, first.attributes)
    key = program._chooser._key(layer_key(shape))
    given = {step.node: step.algorithm for step in program.executable((1, 3, 20, 24)).steps}
    program._chooser.decisions[key] = Choice("gemm", 1)
    program.save(tmp_path / "m.program")
    steps = measured(tmp_path / "m.program", batches=(1,), profile=True)["profile"][0]["steps"]
    assert given[steps[0]["node"]] == "direct" and steps[0]["algorithm"] == "gemm"


def test_what_other_runtimes_cannot_run_is_told(tmp_path: Path) -> None:
    network = graph()
    x = np.random.default_rng(0).standard_normal((8, 3, 20, 24), np.float32)
    plan = precision.candidate("int8", precision.layout(network)).plan
    compiler.build(network, plan, ranges=precision.calibrate(fold_batch_norm(network), x)).save(tmp_path / "m.program")
    result = measured(tmp_path / "m.program", batches=(1,))
    assert names(result) == ["convsmith"] and all("IntegerConv" in note for note in result["notes"]) and len(result["notes"]) == 2


def test_files_without_steps_or_sizes_are_refused(tmp_path: Path) -> None:
    targets.export(graph(), PREPROCESS, ("a", "b", "c"), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"--profile needs the native engine: a run or a \.program file, not 'm\.onnx'"):
        measured(tmp_path / "m.onnx", profile=True)

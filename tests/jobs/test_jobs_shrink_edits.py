"""Edits within `shrink`: priced as codes, made as recorded, healed, and measured like every other point."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convsmith import analysis, compiler, jobs, models, redesign, runs
from convsmith import graph as graphs
from convsmith.interop import pytorch
from convsmith.jobs import sources, trained
from convsmith.jobs.shrinking import edits
from convsmith.jobs.shrinking.workshop import Workshop
from convsmith.redesign import Edit, fold_batch_norm


def test_times_of_codes_belong_to_the_layers_of_the_plain_network() -> None:
    torch.manual_seed(0)
    graph = pytorch.read(models.load("resnet20", classes=10, in_channels=3, input_size=(32, 32)).eval(), (1, 3, 32, 32))
    folded = fold_batch_norm(graph)
    timing = edits.CodeTiming(threads=1, tune_s=0.01)
    codes = compiler.build(edits.in_codes(folded), threads=1)
    assert not {"Conv", "Add"} & {node.op for node in codes.graph}
    times = timing.layers(folded)
    assert set(times) <= {node.name for node in folded}
    convolutions = {node.name for node in folded if node.op == "Conv"}
    assert convolutions <= set(times) | {node.name for node in folded if node.op == "Add"}
    executable = timing.program(folded).executable((1, 3, 32, 32))
    assert {step.node for step in executable.steps} - {node.name for node in folded}, "some steps make codes and have names of their own"
    assert timing.key.endswith("| int8") and timing.key != compiler.Timing(threads=1, tune_s=0.01).key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("edits") / "run"
    settings = {"data": "digits", "model": "smallnet", "training": {"epochs": 2, "threads": 1}}
    jobs.perform("train", settings, out=folder)
    network = trained.load(runs.open(folder))
    record = runs.attach(folder)
    shop = Workshop(network, sources.reopen(record.read_json("dataset.json"), record), record, 1, 150, time_s=10.0)
    editing = edits.Editing(shop, time.monotonic() + 8.0, 0, lambda done, total, name: None, ("prune",))
    editing.waiting = 1
    found = editing.at("int8, 0.9 of the time", 0.9)
    assert found is not None
    return folder, found, shop.measure(found, time.monotonic())


def test_the_network_is_what_its_edits_make_of_the_original(made: tuple[Path, Any, Any]) -> None:
    folder, found, point = made
    original = fold_batch_norm(trained.load(runs.open(folder)).graph)
    again = redesign.apply(original, [Edit.from_dict(edit) for edit in point.edits])
    assert point.macs == analysis.analyse(again).macs < analysis.analyse(original).macs
    assert [array.shape for array in again.weights.values()] == [array.shape for array in found.plain.weights.values()]
    assert point.plan == "int8" and point.predicted_ms is None
    assert point.predicted_share is not None and 0 < point.predicted_share < 1
    assert point.timed(2.0, 9.0, 3.0).predicted_ms == pytest.approx(3.0 * point.predicted_share)


def test_it_is_a_run_that_exports(made: tuple[Path, Any, Any]) -> None:
    folder, found, point = made
    place = folder / point.folder
    assert graphs.load(place / "network.safetensors") == found.graph
    assert jobs.perform("export", {"run": str(place), "to": "native", "images": 40}).result["parity"]["different"] == 0


def test_a_short_search_tries_no_edits(made: tuple[Path, Any, Any]) -> None:
    assert not list(edits.edited(None, time.monotonic() + 60, 0, lambda done, total, name: None))  # type: ignore[arg-type]


def test_codes_of_any_range_keep_the_network_whole() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)).eval()
    graph = edits.in_codes(pytorch.read(module, (1, 1, 8, 8)))
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32)
    assert np.isfinite(compiler.build(graph, threads=1)(x)).all()

"""Training under the plan of a network of signs, and what evaluation and export then make of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convsmith import compiler, runs
from convsmith.jobs import trained as networks

Json = Callable[..., tuple[int, Any]]


def test_a_binary_network_trains_and_ships_as_one(tmp_path: Path, call_json: Json) -> None:
    folder = tmp_path / "run"
    given = ("--model", "vgg_small", "--plan", "binary", "--epochs", 1, "--threads", 1, "--out", folder)
    code, _ = call_json("train", "digits", *given)
    assert code == 0
    run = runs.open(folder)
    network = networks.load(run)
    assert [node.op for node in network.graph].count("Where") == 6, "signs are part of what the run is"
    assert set(np.unique(network.graph.weights["features.conv2.conv.weight"])) == {-1.0, 1.0}

    logits = np.load(folder / "predictions.npz")["logits"]
    code, _ = call_json("eval", folder)
    assert code == 0
    again = np.load(folder / "predictions.npz")["logits"]
    # the emulated network and the graph of its signs: float32 layers before and after the signs round in another order
    assert np.abs(again - logits).max() < 1e-4 * np.abs(logits).max()

    code, _ = call_json("export", folder, "--to", "native")
    assert code == 0
    assert (folder / "model.program").stat().st_size * 25 < (folder / "weights.safetensors").stat().st_size
    program = compiler.load(folder / "model.program")
    assert [node.op for node in program.graph].count("BinaryConv") == 5


def test_auto_is_no_network_of_signs(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call("train", "digits", "--plan", "binary", "--out", tmp_path / "run")
    assert code == 2
    assert "--plan binary needs a network that has layers of signs: --model binaryconnect_mlp" in err

"""Training under the plan of a network of signs, and what evaluation and export then make of the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convsmith import compiler, runs
from convsmith.jobs import trained as networks

Call = Callable[..., tuple[int, str, str]]
Json = Callable[..., tuple[int, Any]]

LINE = r"epoch \d: [\d.e-]+ % of weights flipped in an update, [\d.e-]+ % of channels dead, [\d.e-]+ % of signs without a gradient"


def test_a_binary_network_trains_and_ships_as_one(tmp_path: Path, call: Call, call_json: Json) -> None:
    folder = tmp_path / "run"
    given = ("--model", "vgg_small", "--plan", "binary", "--epochs", 1, "--threads", 1, "--set", "training.count_every=5")
    code, _, err = call("train", "digits", *given, "--out", folder)
    assert code == 0
    assert len(re.findall(LINE, err)) == 1, "how the signs learn is told"
    epoch = next(event for event in runs.open(folder).events() if event["kind"] == "epoch")
    assert all(0 <= epoch[key] <= 1 for key in ("flips", "dead", "saturated")) and epoch["flips"] > 0
    page = (folder / "report.html").read_text()
    assert "Weights that change sign in an update" in page and "Dead channels and saturation" in page

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

    code, _ = call_json("export", folder, "--to", "qonnx")
    assert code == 0, "the file gives the classes of the trained network"
    nodes = onnx.load(folder / "model.qonnx").graph.node
    assert [node.op_type for node in nodes].count("BipolarQuant") == 11, "the weights of five layers, and six signs"

    code, _ = call_json("export", folder, "--to", "native")
    assert code == 0
    assert (folder / "model.program").stat().st_size * 25 < (folder / "weights.safetensors").stat().st_size
    program = compiler.load(folder / "model.program")
    assert [node.op for node in program.graph].count("BinaryConv") == 5


def test_two_stages_with_a_teacher_end_as_a_network_of_signs(tmp_path: Path, call: Call, call_json: Json) -> None:
    code, _ = call_json("train", "digits", "--model", "quicknet", "--epochs", 2, "--threads", 1, "--out", tmp_path / "teacher")
    assert code == 0
    given: tuple[object, ...] = ("--model", "vgg_small", "--plan", "two-stage", "--epochs", 2, "--threads", 1)
    given += ("--teacher", tmp_path / "teacher")
    code, _, err = call("train", "digits", *given, "--size", 12, "--out", tmp_path / "larger")
    assert code == 2 and "whose images are prepared alike, for example with the same --size" in err
    given += ("--set", "training.count_every=5")
    code, found = call_json("train", "digits", *given, "--out", tmp_path / "run")
    assert code == 0
    run = runs.open(tmp_path / "run")
    settings = run.read_json("training.json")
    assert (settings["distil"], settings["temperature"], settings["schedule"]["cycles"]) == (1.0, 1.0, 2)
    assert set(np.unique(networks.load(run).graph.weights["features.conv2.conv.weight"])) == {-1.0, 1.0}
    epochs = [event for event in run.events() if event["kind"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2]
    assert epochs[0]["flips"] is None and epochs[1]["flips"] > 0, "weights are signs from the second epoch on"
    validated = [event["val_accuracy"] for event in epochs if "val_accuracy" in event]
    assert found["result"]["val_accuracy"] == max(validated), "what was validated was a network of signs"


def test_what_two_stages_refuse(tmp_path: Path, call: Call) -> None:
    def refused(model: str, *given: object) -> str:
        code, _, err = call(
            "train", "digits", "--model", model, "--plan", "two-stage", *given, "--out", tmp_path / f"run{len(given)}{model}"
        )
        assert code == 2
        return err

    even = "--plan two-stage has two stages of equal length and needs an even number of --epochs; 3 is given"
    assert even in refused("vgg_small", "--epochs", 3)
    assert "--plan two-stage trains a given number of epochs: give --epochs, and no --time" in refused(
        "vgg_small", "--time", "9s", "--seed", 1
    )
    assert "BinaryMLP has no signs between its layers, only binary weights" in refused("binaryconnect_mlp", "--epochs", 2)


def test_auto_is_no_network_of_signs(tmp_path: Path, call: Call) -> None:
    code, _, err = call("train", "digits", "--plan", "binary", "--out", tmp_path / "run")
    assert code == 2
    assert "--plan binary needs a network that has layers of signs: --model binaryconnect_mlp" in err

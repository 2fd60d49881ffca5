"""Every verb from argv to its result, on the bundled digits and on generated folders."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import convsmith
from convsmith import jobs, runs

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]
Write = Callable[..., Path]


def test_check_counts_and_lists_what_is_wrong(call: Call, call_json: CallJson, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "my photos", {"cat": 10, "dog": 10})
    (folder / "cat" / "empty.png").write_bytes(b"")
    (folder / "dog" / "line\nbreak.png").write_bytes(b"no image")
    code, out, _ = call("check", folder)
    assert code == 0 and "20 usable grey images in 2 classes" in out and "2 files or images are left out" in out
    assert "line\\nbreak.png" in out and "empty.png" in out
    code, found = call_json("check", folder)
    assert code == 0 and found["ok"] and found["result"]["left_out"] == 2 and found["run"] is None
    assert sum(map(sum, found["result"]["counts"].values())) == 20


def test_check_of_one_class_shows_it_and_ends_with_3(call: Call, call_json: CallJson, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "photos", {"cat": 10})
    code, out, err = call("check", folder)
    assert code == 3 and "cat" in out and "error: " in err and "a classifier needs at least two" in err
    code, found = call_json("check", folder)
    assert code == 3 and not found["ok"] and found["error"]["exit_code"] == 3


def test_train_leaves_a_whole_run(trained: Path) -> None:
    run = runs.open(trained)
    assert run.status == "finished" and 0.5 < run.summary["top1"] <= 1 and run.summary["model"] == "smallnet"
    assert run.config == {"data": "digits", "epochs": 2.0, "threads": 1, "deterministic": True}
    for name in ("dataset", "preprocess", "model", "training", "decisions", "quote", "evaluation", "analysis"):
        assert run.read_json(f"{name}.json")
    assert run.read_json("training.json")["epochs"] == 2 and run.read_json("training.json")["deterministic"] is True
    assert run.read_json("quote.json")["measured"]["seconds"] > 0
    assert not any("120 epochs" in row["choice"] for row in run.read_json("decisions.json"))
    predictions = run.predictions()
    assert predictions.correct.mean() == pytest.approx(run.summary["top1"])
    assert {"start", "decision", "quote", "epoch", "evaluation", "end"} <= {event["kind"] for event in run.events()}


def test_train_again_with_the_same_seed_is_the_same(trained: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    jobs.perform("train", config, out=tmp_path / "again")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_train_says_what_it_chose_and_found(call: Call, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "data", {"a": 20, "b": 20})
    code, out, err = call("train", folder, "--epochs", 1, "--threads", 1, "--set", "training.optimizer=sgd", "--out", tmp_path / "run")
    assert code == 0 and "test accuracy" in out and str(tmp_path / "run") in out
    assert "input: 8x8 grey" in err and "model: smallnet" in err and "AdamW" not in err
    settings = runs.open(tmp_path / "run").read_json("training.json")
    assert settings["optimizer"] == "sgd" and settings["learning_rate"] == 0.05 and settings["weight_decay"] == 5e-4
    code, _, err = call("train", folder, "--out", tmp_path / "run")
    assert code == 2 and "is not empty; nothing in it was touched" in err


def test_without_a_test_part_it_is_said(call: Call, write_images: Write, tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "train", {"a": 20, "b": 20})
    write_images(tmp_path / "data" / "val", {"a": 6, "b": 6}, side=9)
    code, out, _ = call("train", tmp_path / "data", "--epochs", 1, "--threads", 1, "--out", tmp_path / "run")
    assert code == 0 and "on val, which also chose the weights: the data has no test part" in out


def test_a_run_that_fails_says_so(call_json: CallJson, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "data", {"a": 20})
    code, found = call_json("train", folder, "--out", tmp_path / "run")
    assert code == 3 and "needs at least two" in found["error"]["message"]
    run = runs.open(tmp_path / "run")
    assert run.status == "failed" and run.error == found["error"]["message"]
    code, found = call_json("train", "digts", "--out", tmp_path / "none")
    assert code == 3 and not (tmp_path / "none").exists()
    assert found["error"]["message"].endswith("or 'digits'. Did you mean 'digits'?")


def test_dry_run_plans_and_writes_nothing(call: Call, call_json: CallJson, runs_root: Path) -> None:
    code, found = call_json("train", "digits", "--epochs", 1, "--threads", 1, "--dry-run")
    plan = found["plan"]
    assert code == 0 and plan["model"] == "smallnet" and plan["training"]["epochs"] == 1
    assert plan["quote"]["seconds"] > 0 and plan["quote"]["memory_bytes"] > 0 and plan["quote"]["disk_bytes"] > 0
    code, out, _ = call("forge", "digits", "--epochs", 1, "--threads", 1, "--dry-run")
    assert code == 0 and "about" in out and "batches of 32" in out and "10 min 00 s allowed" in out and "Nothing was done." in out
    assert not runs_root.exists()


def test_a_disk_that_fills_while_training_is_told_and_the_run_stays_readable(tmp_path: Path) -> None:
    """A real limit of the kernel: no file of this process may pass 300 kB, and the checkpoint is larger."""
    code = """
import resource, sys
from convsmith.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.exit(main(["train", "digits", "--epochs", "1", "--threads", "1", "--out", sys.argv[1]]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1])}
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"error: cannot write .*: File too large; free some space or choose another folder", done.stderr), done.stderr
    run = runs.open(tmp_path / "run")
    assert run.status == "failed" and str(run.error).startswith("cannot write") and run.has("decisions.json")
    assert not list((tmp_path / "run").rglob("*.part"))


def test_print_config_can_be_given_back(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("train", "digits", "--epochs", 3, "--time", "2m", "--set", "training.schedule.kind=cosine", "--print-config")
    assert code == 0 and yaml.safe_load(out)["time"] == 120
    (tmp_path / "settings.yaml").write_text(out)
    assert call("train", "--config", tmp_path / "settings.yaml", "--print-config")[1] == out
    code, out, _ = call("train", "--config", tmp_path / "settings.yaml", "--epochs", 5, "--print-config", "--json")
    assert json.loads(out)["epochs"] == 5 and json.loads(out)["training"] == {"schedule": {"kind": "cosine"}}


def test_eval_repeats_the_test_of_the_run(call: Call, call_json: CallJson, trained: Path) -> None:
    before = runs.open(trained).read_json("evaluation.json")
    code, found = call_json("eval", trained)
    assert code == 0 and found["result"]["held_out"] and found["result"]["top1"] == before["top1"]
    assert runs.open(trained).read_json("evaluation.json")["confusion"] == before["confusion"]
    code, out, _ = call("eval", trained, "digits", "--part", "all")
    assert code == 0 and "1,797 of" in out and "Confusion (rows: true class" in out and "95 %" in out
    assert runs.open(trained).has("evaluation-digits-all.json")


def test_eval_matches_classes_by_name(call: Call, call_json: CallJson, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    digits = runs.open(trained).predictions()
    from sklearn.datasets import load_digits

    bundled = load_digits()
    for name in ("7", "3"):
        (folder / name).mkdir(parents=True)
        for index in np.flatnonzero(bundled.target == int(name))[:12]:
            Image.fromarray((bundled.images[index] * 255 / 16).round().astype(np.uint8)).save(folder / name / f"{index}.png")
    code, found = call_json("eval", trained, folder)
    assert code == 0 and found["result"]["n"] == 24 and found["result"]["part"] == "all"
    assert found["result"]["top1"] > 0.7 and len(digits.labels) == 359
    assert {row["name"]: row["support"] for row in found["result"]["per_class"] if row["support"]} == {"3": 12, "7": 12}
    (folder / "7").rename(folder / "seven")
    code, _, err = call("eval", trained, folder)
    assert code == 3 and "has the class 'seven', which the network was not trained on" in err


def test_predict_files_and_folders(call: Call, call_json: CallJson, trained: Path, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "in", {"sub dir": 3}, side=20)
    (folder / "notes.txt").write_text("no image")
    code, found = call_json("predict", trained, folder, "--top", 3)
    rows = found["result"]["predictions"]
    assert code == 0 and len(rows) == 3 and all(len(row["best"]) == 3 for row in rows)
    assert all(row["best"][0]["score"] >= row["best"][1]["score"] for row in rows)
    target = tmp_path / "out.csv"
    code, _, _ = call("predict", trained, folder / "sub dir" / "0.png", folder / "sub dir" / "1.png", "--csv", target)
    written = list(csv.reader(target.read_text().splitlines()))
    assert code == 0 and written[0][:3] == ["image", "class1", "score1"] and len(written) == 3
    assert written[1][1] == rows[0]["best"][0]["class"] and float(written[1][2]) == pytest.approx(rows[0]["best"][0]["score"], abs=1e-6)
    code, _, err = call("predict", trained, folder, "--csv", target)
    assert code == 2 and "exists; give another --csv, or --overwrite" in err


def test_predict_lists_what_it_cannot_read(call: Call, trained: Path, tmp_path: Path, write_images: Write) -> None:
    folder = write_images(tmp_path / "in", {"x": 1})
    (folder / "x" / "bad.png").write_bytes(b"no image")
    code, out, err = call("predict", trained, folder)
    assert code == 3 and "0.png" in out and "bad.png' cannot be read" in err
    code, out, err = call("predict", trained, folder / "x" / "bad.png")
    assert code == 3 and out == "" and "cannot be read" in err
    (tmp_path / "none").mkdir()
    code, _, err = call("predict", trained, tmp_path / "none")
    assert code == 2 and "no image in" in err


def test_inspect_knows_runs_names_and_the_whole_zoo(call: Call, call_json: CallJson, trained: Path) -> None:
    code, found = call_json("inspect", trained)
    assert code == 0 and found["result"]["totals"]["parameters"] == runs.open(trained).summary["parameters"]
    code, found = call_json("inspect", "lenet5")
    assert code == 0 and found["result"]["totals"]["parameters"] == 61706
    code, out, _ = call("inspect")
    assert code == 0 and "resnet18" in out


def test_export_predict_eval_and_bench_the_file(
    call: Call, call_json: CallJson, trained: Path, tmp_path: Path, write_images: Write
) -> None:
    file = tmp_path / "digits.onnx"
    code, found = call_json("export", trained, "--out", file)
    assert code == 0 and found["result"]["parity"]["passed"] and found["result"]["parity"]["images"] == 359
    assert runs.open(trained).read_json("export.json")["file"] == "digits.onnx"
    code, _, err = call("export", trained, "--out", file)
    assert code == 2 and "exists" in err
    code, found = call_json("inspect", file)
    assert code == 0 and found["result"]["totals"]["macs"] == runs.open(trained).read_json("analysis.json")["totals"]["macs"]
    folder = write_images(tmp_path / "in", {"x": 4}, side=13)
    by_run = call_json("predict", trained, folder)[1]["result"]["predictions"]
    by_file = call_json("predict", file, folder)[1]["result"]["predictions"]
    for a, b in zip(by_run, by_file, strict=True):
        # softmax of the same logits to within float32 rounding of two runtimes
        assert [x["score"] for x in a["best"]] == pytest.approx([x["score"] for x in b["best"]], abs=1e-5)
    code, found = call_json("eval", file, "digits", "--part", "all")
    assert code == 0 and found["result"]["n"] == 1797
    code, _, err = call("eval", file)
    assert code == 2 and "does not say which images it was trained on" in err
    code, found = call_json("bench", file, "--batches", 1, "--rounds", 7)
    assert code == 0 and found["result"]["rows"][0]["median_ms"] > 0
    code, found = call_json("bench", trained, "--batches", 1, "--rounds", 7)
    assert {"torch", "onnxruntime"} <= {row["runtime"] for row in found["result"]["rows"]}
    assert runs.open(trained).read_json("bench.json")["rows"]


def test_precision_names_the_families_there_are() -> None:
    from convsmith import precision
    from convsmith.jobs.precision import Config

    assert f": {', '.join(precision.FAMILIES)};" in str(Config.model_fields["families"].description)


def test_precision_finds_fewer_bits_and_confirms_them(call: Call, call_json: CallJson, trained: Path) -> None:
    code, found = call_json("precision", trained, "--families", "int", "--max-drop", 2)
    result = found["result"]
    assert code == 0 and result["chosen"] and result["weight_bytes"] < result["float32_weight_bytes"]
    chosen = next(point for point in result["points"] if point["format"] == result["chosen"])
    assert chosen["drop"] <= 2 and chosen["bits"] <= 8 and result["confirmed"]["n"] == 359
    assert runs.open(trained).has("plan.json") and runs.open(trained).has("precision.svg")
    code, _, err = call("precision", trained, "--families", "itn")
    assert code == 2 and "Did you mean 'int'?" in err


def test_the_native_engine_predicts_as_torch_does(
    call: Call, call_json: CallJson, trained: Path, tmp_path: Path, write_images: Write
) -> None:
    folder, file = write_images(tmp_path / "in", {"x": 4}, side=13), tmp_path / "digits.program"
    code, found = call_json("export", trained, "--to", "native", "--out", file)
    assert code == 0 and found["result"]["parity"]["passed"] and found["result"]["parity"]["runtime"] == "native"
    by_torch = call_json("predict", trained, folder)[1]["result"]["predictions"]
    for arguments in ((trained, folder, "--engine", "native"), (file, folder)):
        rows = call_json("predict", *arguments)[1]["result"]["predictions"]
        for row, expected in zip(rows, by_torch, strict=True):
            assert row["best"][0]["class"] == expected["best"][0]["class"]
            assert row["best"][0]["score"] == pytest.approx(expected["best"][0]["score"], abs=1e-5)
    code, _, err = call("predict", tmp_path / "a.onnx", folder, "--engine", "native")
    assert code == 2 and "--engine native takes a run" in err

"""The inspect verb: layers against the machine, in a run's, a file's or the zoo's network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from convsmith import analysis, data, jobs, models
from convsmith.errors import UsageError
from convsmith.graph import Graph
from convsmith.interop import pytorch
from convsmith.jobs import explain, inspect


def test_layers_have_limits_times_and_shares() -> None:
    outcome = jobs.perform("inspect", {"network": "lenet5", "batch": 4})
    result = outcome.result
    rows = {row["name"]: row for row in result["layers"]}
    timed = [row for row in rows.values() if row["measured_s"] is not None]
    assert sum(row["share"] for row in timed) == pytest.approx(1)
    assert {row["op"] for row in timed} >= {"Conv", "Gemm"} and all(row["fused"] == (row["measured_s"] is None) for row in rows.values())
    assert all(row["bound"] in ("compute", "memory", "overhead") for row in rows.values())
    convolution = next(row for row in timed if row["op"] == "Conv")
    assert convolution["compute_s"] == pytest.approx(2 * convolution["macs"] / result["machine"]["flops_per_s"])
    assert convolution["algorithm"] and convolution["weight_bytes"] == 4 * convolution["parameters"]
    text = inspect.lines(result)
    assert "bound by" in text and "native engine:" in text and "billion operations/s" in text
    assert "for 4 images, median of" in text


def test_without_measuring_the_costs_alone_remain() -> None:
    result = jobs.perform("inspect", {"network": "lenet5", "measure": False, "training": 0}).result
    assert "machine" not in result and "measured_s" not in result["layers"][0]
    assert inspect.lines(result).startswith(result["text"])


def test_memory_is_told_and_the_largest_batch_fits(tmp_path: Path) -> None:
    config = {"network": "lenet5", "measure": False, "training": 8, "memory": "20GB", "page": tmp_path / "p.html"}
    result = jobs.perform("inspect", config).result
    found = result["memory"]
    assert found["limit_bytes"] == 20 * 10**9
    used, trained = found["inference"], found["training"]
    report = analysis.analyse(_graph("lenet5"), used["largest_batch"])
    assert report.weight_bytes + report.peak.activation_bytes <= 20 * 10**9
    assert trained["largest_batch"] > 100 and trained["total_bytes"] < 20 * 10**9
    text = inspect.lines(result)
    assert "Training with 8 images an update takes about" in text and "In 20.0 GB fit" in text
    assert "The network drawn" in (tmp_path / "p.html").read_text()
    with pytest.raises(UsageError, match=r"exists already; name another file with --page"):
        jobs.perform("inspect", config)
    with pytest.raises(UsageError, match="'lots' is not an amount of memory; write for example 3GB, 500MB or 2GiB"):
        jobs.perform("inspect", {"network": "lenet5", "memory": "lots"})
    with pytest.raises(UsageError, match="--image is shown on a page"):
        jobs.perform("inspect", {"network": "lenet5", "image": "x.png"})


def _graph(name: str) -> Graph:
    torch.manual_seed(0)
    return pytorch.read(models.load(name, classes=10, in_channels=1, input_size=(28, 28)).eval(), (1, 1, 28, 28))


def test_an_image_is_explained_by_a_run_and_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs.perform("train", {"data": "digits", "epochs": 2, "threads": 1}, out=tmp_path / "run")
    jobs.perform("export", {"run": str(tmp_path / "run"), "out": tmp_path / "net.onnx"})
    dataset = data.open("digits")
    Image.fromarray(dataset.test.image(0)[:, :, 0]).save("digit.png")
    by_run = jobs.perform("explain", {"network": str(tmp_path / "run"), "image": "digit.png"}).result
    by_file = jobs.perform("explain", {"network": "net.onnx", "image": "digit.png", "page": "file.html"}).result
    told = jobs.perform("predict", {"run": "net.onnx", "images": ["digit.png"], "top": 5}).result["predictions"][0]["best"]
    # the answers of two runtimes to the same pixels, temperature aside
    assert by_run["best"][0]["class"] == by_file["best"][0]["class"] == told[0]["class"]
    assert by_run["best"][0]["score"] == pytest.approx(by_file["best"][0]["score"], abs=1e-4)
    assert "Grad-CAM of" in explain.lines(by_run) and by_run["page"] == "explain-digit.html"
    page = Path("explain-digit.html").read_text()
    assert "Filters and activations" in page and page.count("data:image/png") > 5
    inspected = {"network": "net.onnx", "measure": False, "training": 0, "image": "digit.png", "page": "look.html"}
    jobs.perform("inspect", inspected)
    assert "What a value sees" in Path("look.html").read_text()
    with pytest.raises(UsageError, match="there is no class 'ten'"):
        jobs.perform("explain", {"network": "net.onnx", "image": "digit.png", "target": "ten", "page": "other.html"})

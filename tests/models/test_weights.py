"""Weights from files: what fits, what is said when it does not, and that a file runs no code."""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from convsmith import models
from convsmith.errors import DataError, UsageError


def trained(classes: int = 10) -> nn.Module:
    torch.manual_seed(9)
    return models.load("resnet20", classes=classes)


def equal(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_safetensors_and_wrapped_checkpoints_load(tmp_path: Path) -> None:
    source = trained()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    torch.save(source.state_dict(), tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in source.state_dict().items()}}, tmp_path / "c.th")
    for name in ("a.safetensors", "b.pth", "c.th"):
        assert equal(models.load("resnet20", weights=tmp_path / name), source), name


def test_counters_of_batch_norm_may_be_absent(tmp_path: Path) -> None:
    kept = {key: value for key, value in trained().state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "a.safetensors")
    assert torch.equal(models.load("resnet20", weights=tmp_path / "a.safetensors").state_dict()["conv1.weight"], kept["conv1.weight"])


def test_head_for_other_classes_starts_at_random_and_says_so(tmp_path: Path) -> None:
    source = trained(classes=10)
    save_file(source.state_dict(), tmp_path / "ten.safetensors")
    torch.manual_seed(4)
    fresh = models.load("resnet20", classes=3)
    torch.manual_seed(4)
    with pytest.warns(
        UserWarning, match=r"^ten\.safetensors was trained for 10 classes, the network has 3: linear\.weight, linear\.bias start"
    ):
        network = models.load("resnet20", classes=3, weights=tmp_path / "ten.safetensors")
    assert torch.equal(network.state_dict()["linear.weight"], fresh.state_dict()["linear.weight"])
    assert torch.equal(network.state_dict()["layer3.2.conv2.weight"], source.state_dict()["layer3.2.conv2.weight"])


def test_differences_are_listed(tmp_path: Path) -> None:
    content = trained().state_dict()
    del content["conv1.weight"]
    content["head.weight"] = torch.zeros(2)
    content["layer1.0.conv1.weight"] = torch.zeros(16, 16, 5, 5)
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(DataError) as caught:
        models.load("resnet20", weights=tmp_path / "a.safetensors")
    assert str(caught.value) == (
        f"weights '{tmp_path}/a.safetensors' do not fit the network, 3 differences:\n"
        "  missing conv1.weight\n"
        "  unknown head.weight\n"
        "  layer1.0.conv1.weight is (16, 16, 5, 5), the network has (16, 16, 3, 3)"
    )


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"98 differences:\n  missing conv1\.weight\n(.*\n){11}  and 86 more$"):
        models.load("resnet20", weights=tmp_path / "a.safetensors")


def test_another_input_size_is_a_difference_not_another_head(tmp_path: Path) -> None:
    save_file(models.load("logistic", input_size=(8, 8)).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"classifier\.weight is \(10, 192\), the network has \(10, 243\)"):
        models.load("logistic", input_size=(9, 9), weights=tmp_path / "a.safetensors")


class Payload:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"x": Payload(trace)}, protocol=2))
    torch.save({"x": Payload(trace)}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(DataError, match=rf"cannot read weights '.*{name}': "):
            models.load("resnet20", weights=tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".th"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"not weights at all"])
def test_broken_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read weights"):
        models.load("resnet20", weights=path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    source = trained().state_dict()
    save_file(source, tmp_path / "a.safetensors")
    torch.save(source, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match="cannot read weights"):
            models.load("resnet20", weights=path)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no weights file"):
        models.load("resnet20", weights=tmp_path / "absent.pth")
    with pytest.raises(UsageError, match=r"end in '\.onnx'; allowed are \.safetensors, \.pth, \.pt, \.th"):
        models.load("resnet20", weights=tmp_path / "a.onnx")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="holds no table of weights"):
        models.load("resnet20", weights=tmp_path / "list.pt")


@pytest.mark.real_data
def test_resnet20_knows_cifar10(real_data: Path) -> None:
    network = models.load("resnet20", weights=real_data / "weights/resnet20_cifar10/resnet20-12fca82f.th").eval()
    records = np.fromfile(real_data / "data/cifar10/original-4000/test_batch.bin", np.uint8).reshape(-1, 3073)[:500]
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network((images - mean[:, None, None]) / std[:, None, None])
    # 99.8 % on all 4,000 of these training images
    assert (logits.argmax(1).numpy() == records[:, 0]).mean() > 0.99


@pytest.mark.real_data
@pytest.mark.slow
def test_mobilenet_v2_knows_photos_and_needs_the_padding_of_tensorflow(real_data: Path) -> None:
    folder = real_data / "data/imagenet-samples"
    weights = real_data / "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors"
    with (folder / "labels.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    photos = []
    for row in rows:
        with Image.open(folder / row["file"]) as image:
            rgb = image.convert("RGB")
        scale = 256 / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BILINEAR)
        left, top = (rgb.width - 224) // 2, (rgb.height - 224) // 2
        photos.append(np.asarray(rgb.crop((left, top, left + 224, top + 224)), np.float32) / 127.5 - 1)
    x_nchw = torch.from_numpy(np.stack(photos).transpose(0, 3, 1, 2).copy())
    truth = np.array([int(row["class_index"]) for row in rows])

    def accuracy(same_padding: bool) -> float:
        network = models.load("mobilenet_v2", classes=1000, weights=weights, same_padding=same_padding).eval()
        with torch.inference_mode():
            scores = torch.cat([network(part) for part in x_nchw.split(32)])
        return float((scores.argmax(1).numpy() == truth).mean())

    # 85.5 % was measured for these weights with TensorFlow's padding, 80 % with symmetric padding
    same, symmetric = accuracy(True), accuracy(False)
    assert same > 0.82
    assert same > symmetric > 0.7

"""The bottleneck of a training: planted ones are named, shares follow the epochs, and a fix is what it says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convsmith.data import Preprocess, jpeg
from convsmith.data.dataset import Dataset
from convsmith.data.images import EncodedSplit
from convsmith.training import Augment, Training
from convsmith.training.diagnosis import diagnose


def photos(folder: Path, side: int, images: int = 16) -> Dataset:
    rng = np.random.default_rng(0)
    names = [str(folder / f"{index}.jpg") for index in range(images)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC).save(name)
    extents = np.full((images, 2), side, np.int32)
    split = EncodedSplit(names, [Path(name) for name in names], np.arange(images) % 2, np.arange(images, dtype=np.uint64), extents)
    return Dataset("photos", str(folder), ("a", "b"), 3, {"train": split})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def found(dataset: Dataset, side: int = 32, **more: Any) -> Any:
    limit = more.pop("limit_bytes", None)
    return diagnose(network(), dataset, Preprocess(side, side), Training(batch=16, **more), images=16, limit_bytes=limit)


def test_a_slow_disk_is_named_and_a_pack_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = jpeg.encoded_bytes

    def slow(source: Any) -> Any:
        if not isinstance(source, bytes):
            time.sleep(0.1)
        return plain(source)

    monkeypatch.setattr(jpeg, "encoded_bytes", slow)
    dataset = photos(tmp_path, 40)
    said = found(dataset, resident=False)
    assert said.bottleneck == "disk" and said.fix.pack and not said.resident
    # sixteen reads of a tenth of a second by one thread for each processor
    assert 0.1 / 64 < said.seconds["disk"] < 0.3
    # images that stay in memory are read once
    kept = found(dataset, resident=True, epochs=1000.0)
    assert kept.resident and kept.seconds["disk"] < said.seconds["disk"] / 100


def test_huge_pictures_and_heavy_augmentation_are_named(tmp_path: Path) -> None:
    (tmp_path / "huge").mkdir()
    said = found(photos(tmp_path / "huge", 1600), resident=False)
    assert said.bottleneck == "decode" and said.fix.pack
    heavy = Augment(elastic=0.2, blur=8.0, flip=True)
    said = found(photos(tmp_path, 224), 224, resident=True, epochs=1000.0, augment=heavy)
    assert said.bottleneck == "augmentation"
    (name,) = said.fix.settings["augment"]
    assert name in ("elastic", "blur") and said.fix.settings["augment"][name] == 0 and f"leave out {name}" in said.fix.text


def test_a_training_that_does_not_fit_has_that_bottleneck(tmp_path: Path) -> None:
    said = found(photos(tmp_path, 40), limit_bytes=10_000_000)
    assert said.bottleneck == "memory" and said.need_bytes > said.limit_bytes == 10_000_000
    assert said.fix.settings == {"accumulate": 16} and "in 16 parts" in said.fix.text


def test_the_module_and_the_parts_are_whole(tmp_path: Path) -> None:
    module = network().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    said = diagnose(module, photos(tmp_path, 40), Preprocess(32, 32), Training(batch=4), images=16)
    assert not module.training and all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert said.total_s == pytest.approx(sum(said.seconds.values())) and min(said.seconds.values()) >= 0
    assert said.to_dict()["total_s"] == said.total_s and set(said.seconds) == {
        "disk", "decode", "augmentation", "copy", "compute", "memory", "Python"
    }  # fmt: skip

"""The doctor verb: what it says, and that its settings train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import jobs, runs
from convsmith.errors import UsageError
from convsmith.jobs import doctor, preparation, train


@pytest.mark.slow
def test_it_mends_huge_pictures_and_train_takes_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(16):
        folder = tmp_path / "photos" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize((1400, 1400), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg")
    config = {"data": "photos", "model": "smallnet", "size": 32, "trial": 8, "epochs": 1, "training": {"resident": False}}
    result = jobs.perform("doctor", {**config, "apply": True}).result
    assert result["bottleneck"] == "decode" and result["pack"] == "doctor.pack"
    after = result["after"]
    assert after["seconds"]["decode"] < result["seconds"]["decode"] / 3
    text = doctor.lines(result)
    assert "bottleneck: decode" in text and "times as fast" in text and "convsmith train --config doctor.yaml" in text
    settings = jobs.compose(train.Config, file=Path("doctor.yaml"))
    assert settings.data == "doctor.pack" and settings.training.resident is False and settings.size == 32
    assert preparation.prepare(settings, runs.Unrecorded()).model == "smallnet"
    with pytest.raises(UsageError, match=r"'doctor.yaml' exists already; name another file with --settings-file"):
        jobs.perform("doctor", {**config, "apply": True})
    assert "To apply it" in doctor.lines(jobs.perform("doctor", config).result)

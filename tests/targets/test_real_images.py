"""Photos from files through the exported preprocessing, and a public network through both targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from target_nets import logits, small_graph

from convsmith import targets
from convsmith.data.preprocess import Preprocess

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize("folder", ["flowers5", "trashnet", "imagenet-samples"])
def test_photos_keep_parity(real_data, tmp_path, folder) -> None:
    paths = sorted(path for path in (real_data / "data" / folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[::12]
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert len(photos) >= 10
    graph, p = small_graph(), Preprocess(12, 10, 3, "crop", 0.875)
    result = targets.export(graph, p, tuple("abcd"), tmp_path / "m.onnx", images=photos, expected_logits=logits(graph, p, photos))
    assert result.parity.passed and result.parity.largest_logit_difference < 1e-4


def resnet20(weights: Path):
    from convsmith import models

    return models.load("resnet20", classes=10, in_channels=3, input_size=(32, 32), weights=weights).eval()


def test_resnet20_agrees_in_both_runtimes(real_data, tmp_path) -> None:
    import torch

    from convsmith import data, precision
    from convsmith.data.preprocess import normalise
    from convsmith.interop import pytorch

    network = resnet20(real_data / "weights" / "resnet20_cifar10" / "resnet20-12fca82f.th")
    split = data.open(real_data / "data" / "cifar10" / "original-4000").test
    pixels = [split.image(index) for index in range(200)]
    p = Preprocess(32, 32, 3, "squash", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = normalise(np.stack(pixels), p)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    labels = split.labels[:200]
    assert (expected.argmax(axis=1) == labels).mean() > 0.98  # training images of this network
    graph = pytorch.read(network, (1, 3, 32, 32))
    names = tuple(map(str, range(10)))
    result = targets.export(graph, p, names, tmp_path / "m.onnx", images=pixels, expected_logits=expected)
    assert result.parity.largest_logit_difference < 1e-3 and result.parity.ties == ()
    score = precision.scorer(graph, x, labels, calibration=x[:64])
    baseline = score(None)
    for name, allowed in (("bf16", 1.0), ("int8", 1.0), ("e4m3fn", 3.0)):
        candidate = precision.candidate(name, precision.layout(graph))
        assert precision.compare(baseline, score(candidate.plan))["drop"] <= allowed, name

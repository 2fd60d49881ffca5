"""Program files that read pixels: they predict what the trained network predicts, or are not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convsmith import compiler, models, targets
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, ParityError, UsageError
from convsmith.interop import pytorch

PREPROCESS = Preprocess(height=28, width=28, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
CLASSES = ("a", "b", "c")


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.load("smallnet", classes=3, in_channels=3, input_size=(28, 28)).eval()


def photos() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 30), (28, 28), (31, 77), (40, 30))]


def logits_of(module: torch.nn.Module) -> np.ndarray:
    x = normalise(np.stack([resize(image, PREPROCESS) for image in photos()]), PREPROCESS)
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def test_a_file_predicts_what_the_network_does(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "m.program"
    graph = pytorch.read(module, (1, 3, 28, 28))
    exported = targets.export(graph, PREPROCESS, CLASSES, path, target="native", images=photos(), expected_logits=logits_of(module))
    assert exported.parity is not None and exported.parity.passed and exported.parity.runtime == "native" and exported.parity.images == 4
    # float32 sums in another order
    assert exported.parity.largest_logit_difference < 1e-5
    scores, labels = targets.predict(compiler.open_session(path), photos())
    expected = torch.softmax(torch.from_numpy(logits_of(module)), 1).numpy()
    assert labels == CLASSES
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match=r"m\.program exists; remove it, choose another name, or ask to overwrite it"):
        targets.export(graph, PREPROCESS, CLASSES, path, target="native")
    with pytest.raises(UsageError, match=r"target 'native' writes \*\.program files, but the path is 'm\.onnx'"):
        targets.export(graph, PREPROCESS, CLASSES, tmp_path / "m.onnx", target="native")


def test_a_file_that_disagrees_is_not_kept(tmp_path: Path) -> None:
    module = network()
    graph, wrong = pytorch.read(module, (1, 3, 28, 28)), -logits_of(module)
    with pytest.raises(ParityError, match=r"m\.program predicts another class than the trained network for 4 of 4 images"):
        targets.export(graph, PREPROCESS, CLASSES, tmp_path / "m.program", target="native", images=photos(), expected_logits=wrong)
    assert [file.name for file in tmp_path.iterdir()] == ["m.program.failed"]


def test_a_bare_program_runs_on_arrays_only(tmp_path: Path) -> None:
    compiler.build(pytorch.read(network(), (1, 3, 28, 28))).save(tmp_path / "bare.program")
    with pytest.raises(DataError, match=r"bare\.program carries no labels and preprocessing; call it from Python"):
        compiler.open_session(tmp_path / "bare.program")

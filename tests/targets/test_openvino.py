"""The OpenVINO target, where it is installed."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from target_nets import images, logits, small_graph

from convsmith import targets
from convsmith.data.preprocess import Preprocess
from convsmith.errors import DataError, UnsupportedError

LABELS = ("cat", "Größe\n2", "猫", '<"&>')


@pytest.mark.extra
def test_ir_agrees_and_carries_its_labels(tmp_path) -> None:
    pytest.importorskip("openvino")
    graph, p = small_graph(), Preprocess(12, 10, 3, "crop")
    pixels = images(16)
    expected = logits(graph, p, pixels)
    result = targets.export(graph, p, LABELS, tmp_path / "m.xml", target="openvino", images=pixels, expected_logits=expected)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    assert [file.name for file in result.files] == ["m.xml", "m.bin"]
    # OpenVINO computes the resize weights in float32: a pixel may differ by one, the mean over the image by less
    assert result.parity.runtime == "openvino" and result.parity.largest_score_difference < 0.02
    session = targets.load(tmp_path / "m.xml", threads=1)
    assert session.labels == LABELS and session.preprocess == p
    scores, _ = targets.predict(session, pixels)
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    (tmp_path / "broken.xml").write_text("<net>")
    with pytest.raises(DataError, match=r"OpenVINO cannot open broken\.xml"):
        targets.load(tmp_path / "broken.xml")


def test_one_sentence_without_it(tmp_path, monkeypatch) -> None:
    plain = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "openvino":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    targets.export(small_graph(), Preprocess(12, 10, 3), LABELS, tmp_path / "m.onnx")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnsupportedError, match=r"OpenVINO is not installed; install the extra: pip install 'convsmith\[openvino\]'"):
        targets.export(small_graph(), Preprocess(12, 10, 3), LABELS, tmp_path / "m.xml", target="openvino")
    result = targets.bench(small_graph(), tmp_path / "m.onnx", image_size=(20, 20), batches=(1,), rounds=7)
    assert result["notes"][1].startswith("OpenVINO is not installed")
    assert [row["runtime"] for row in result["network"]] == ["onnxruntime"]

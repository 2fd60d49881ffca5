"""Export: a file that reads pixels and agrees with the network, or none."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from target_nets import images, logits, small_graph

from convsmith import targets
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, ParityError, ResourceError, UsageError

LABELS = ("cat", "Größe\n2", "猫", "🦊 fox")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_file_agrees_with_the_network(tmp_path, channels, mode) -> None:
    graph = small_graph(channels)
    p = Preprocess(12, 10, channels, mode, 1.0, (0.5,) * channels, (0.25,) * channels)
    pixels = [*images(23, channels), *images(2, channels, largest=2)]
    result = targets.export(graph, p, LABELS, tmp_path / "m.onnx", images=iter(pixels), expected_logits=logits(graph, p, pixels))
    assert result.parity.passed and result.parity.images == 25 and result.parity.ties == ()
    assert result.parity.largest_logit_difference < 1e-5  # float32 sums of 27 and 6 terms of size about 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx"]
    assert result.size_bytes == (tmp_path / "m.onnx").stat().st_size
    json.dumps(result.to_dict(), allow_nan=False)


def test_file_carries_labels_preprocessing_and_metadata(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3, "crop", 0.875, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    targets.export(graph, p, LABELS, tmp_path / "m.onnx", metadata={"run": "räuber"})
    session = targets.load(tmp_path / "m.onnx")
    assert session.labels == LABELS
    assert session.preprocess == p
    assert session.metadata["run"] == "räuber" and session.metadata["version"]
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    image = model.graph.input[0]
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", "H", "W", 3]
    assert [value.name for value in model.graph.output] == ["scores", "logits"]


def test_the_network_comes_out_of_the_file_again(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3, "crop", 0.875, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    alone = targets.network_of(onnx.load(tmp_path / "m.onnx"))
    onnx.checker.check_model(alone, full_check=True)
    assert [node.op_type for node in alone.graph.node] == [node.op for node in graph]
    pixels = images(1)
    x_nchw = normalise(np.stack([resize(image, p) for image in pixels]), p)
    session = onnxruntime.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x_nchw})
    np.testing.assert_allclose(answer, logits(graph, p, pixels), atol=1e-5)  # float32 sums of 27 and 6 terms of size about 1
    assert targets.network_of(onnx.load_from_string(targets.network_bytes(graph))) is None


def test_predict_takes_any_size_and_channel_count(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3)
    targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    grey = images(1, 1)[0]
    pixels = [*images(9), grey, grey[:, :, 0]]
    scores, labels = targets.predict(tmp_path / "m.onnx", iter(pixels), batch=4)
    assert labels == LABELS and scores.shape == (11, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    expected = logits(graph, p, [*pixels[:9], np.repeat(grey, 3, axis=2), np.repeat(grey, 3, axis=2)])
    expected = np.exp(expected - expected.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scores, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    one_by_one, _ = targets.predict(targets.load(tmp_path / "m.onnx"), pixels, batch=1)
    np.testing.assert_allclose(scores, one_by_one, atol=1e-6)
    assert targets.predict(tmp_path / "m.onnx", [])[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "image 0 is float32 of shape (4, 4, 3); give uint8 pixels"),
        (np.zeros((4, 4, 4), np.uint8), "image 0 is uint8 of shape (4, 4, 4); give uint8 pixels"),
        (np.zeros((0, 4, 3), np.uint8), "image 0 is uint8 of shape (0, 4, 3); give uint8 pixels"),
    ],
)
def test_predict_refuses_what_is_no_image(tmp_path, image, said) -> None:
    targets.export(small_graph(), Preprocess(12, 10, 3), LABELS, tmp_path / "m.onnx")
    with pytest.raises(UsageError) as caught:
        targets.predict(tmp_path / "m.onnx", [image])
    assert said in str(caught.value)


def test_a_sabotaged_file_fails_and_is_renamed(tmp_path, monkeypatch) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3)
    pixels = images(30)
    expected = logits(graph, p, pixels)

    def sabotage(shipped, path):
        model = targets.onnx_model(shipped)
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 0, 100], np.float32), "fc.bias"))
        path.write_bytes(model.SerializeToString())
        return (path,)

    monkeypatch.setitem(targets.TARGETS, "onnx", targets.Target("model.onnx", "onnxruntime", sabotage))
    with pytest.raises(ParityError, match=r"m\.onnx predicts another class than the trained network for \d+ of 30 images"):
        targets.export(graph, p, LABELS, tmp_path / "m.onnx", images=pixels, expected_logits=expected)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx.failed"]
    assert ParityError.exit_code == 3


def test_a_tie_is_no_disagreement(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3)
    targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    pixels = images(6)
    expected = logits(graph, p, pixels)
    best, second = np.argsort(expected, axis=1)[:, ::-1][:, :2].T
    rows = np.arange(6)
    expected[rows, second] = expected[rows, best] + 1e-5  # the other one of the two best wins by less than a tie
    result = targets.parity(tmp_path / "m.onnx", pixels, expected)
    assert result.passed and result.ties == tuple(range(6))
    assert "agrees" in str(result) and "6 ties" in str(result)
    expected[rows, second] = expected[rows, best] + 1
    result = targets.parity(tmp_path / "m.onnx", pixels, expected)
    assert result.disagreements == tuple(range(6)) and not result.passed
    with pytest.raises(ParityError, match=r"6 of 6 images \(indices 0, 1, 2, 3, 4 \.\.\.\)"):
        targets.require(result, "m.onnx")


def test_scores_that_are_not_finite_disagree(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3)
    targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    session = targets.load(tmp_path / "m.onnx")
    broken = targets.Session(session.path, "onnxruntime", LABELS, p, {}, lambda x: [np.full((len(x), 4), np.nan, np.float32)] * 2)
    result = targets.parity(broken, images(3), logits(graph, p, images(3)))
    assert result.disagreements == (0, 1, 2) and result.largest_score_difference == np.inf


@pytest.mark.parametrize(("count", "said"), [(4, "5 images"), (6, "5 images for 6 expected logits")])
def test_parity_counts(tmp_path, count, said) -> None:
    targets.export(small_graph(), Preprocess(12, 10, 3), LABELS, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="more images than the 4 expected logits" if count == 4 else said):
        targets.parity(tmp_path / "m.onnx", images(5), np.zeros((count, 4)))


def test_errors_of_export(tmp_path) -> None:
    graph, p = small_graph(), Preprocess(12, 10, 3)
    with pytest.raises(UsageError, match=r"no target 'onx'; allowed are onnx, qdq, qonnx, .*tensorrt-script. Did you mean 'onnx'\?"):
        targets.export(graph, p, LABELS, tmp_path / "m.onnx", target="onx")
    with pytest.raises(UsageError, match=r"target 'onnx' writes \*\.onnx files, but the path is 'm\.pb'"):
        targets.export(graph, p, LABELS, tmp_path / "m.pb")
    with pytest.raises(UsageError, match=r"writes scores for \[4\], but preprocessing and labels say \[2\]"):
        targets.export(graph, p, ("a", "b"), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"reads channels x height x width \[3, 12, 10\], but preprocessing and labels say \[3, 28, 28\]"):
        targets.export(graph, Preprocess(28, 28, 3), LABELS, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="parity needs both images and expected_logits"):
        targets.export(graph, p, LABELS, tmp_path / "m.onnx", images=images(1))
    with pytest.raises(UsageError, match="there is no folder"):
        targets.export(graph, p, LABELS, tmp_path / "none" / "m.onnx")
    assert list(tmp_path.iterdir()) == []
    targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"exists; remove it, choose another name, or ask to overwrite it \(--overwrite\)"):
        targets.export(graph, p, LABELS, tmp_path / "m.onnx")
    targets.export(graph, p, LABELS, tmp_path / "m.onnx", overwrite=True)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(shipped, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(targets.TARGETS, "onnx", targets.Target("model.onnx", "onnxruntime", full))
    with pytest.raises(ResourceError, match=r"cannot write .*m\.onnx: No space left on device; free some space"):
        targets.export(small_graph(), Preprocess(12, 10, 3), LABELS, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_load(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*gone\.onnx'"):
        targets.load(tmp_path / "gone.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"ONNX Runtime cannot open broken\.onnx"):
        targets.load(tmp_path / "broken.onnx")
    (tmp_path / "bare.onnx").write_bytes(targets.network_bytes(small_graph()))
    with pytest.raises(DataError, match=r"bare\.onnx carries no labels and preprocessing"):
        targets.load(tmp_path / "bare.onnx")
    with pytest.raises(UsageError, match=r"no runtime 'onnx'; allowed are onnxruntime, openvino, native"):
        targets.load(tmp_path / "bare.onnx", runtime="onnx")


def test_register_refuses_a_duplicate() -> None:
    with pytest.raises(UsageError, match="target 'onnx' exists already; choose another name"):
        targets.register("onnx", targets.TARGETS["onnx"])

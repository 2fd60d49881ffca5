"""The OpenVINO target, where it is installed."""

from __future__ import annotations

import builtins
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper
from target_nets import images, logits, small_graph

from convsmith import compiler, formats, precision, targets
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, UnsupportedError
from convsmith.interop import onnx
from convsmith.targets.preprocessing import sketch
from convsmith.targets.sessions import openvino_core

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
    # pixels are the same; OpenVINO multiplies and adds in one step, which moves normalised values by an ulp
    assert result.parity.runtime == "openvino" and result.parity.largest_logit_difference < 1e-4
    session = targets.load(tmp_path / "m.xml", threads=1)
    assert session.labels == LABELS and session.preprocess == p
    scores, _ = targets.predict(session, pixels)
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    (tmp_path / "broken.xml").write_text("<net>")
    with pytest.raises(DataError, match=r"OpenVINO cannot open broken\.xml"):
        targets.load(tmp_path / "broken.xml")


@pytest.mark.extra
def test_an_onnx_file_carries_its_labels_here_too(tmp_path) -> None:
    pytest.importorskip("openvino")
    graph, p, confidence = small_graph(), Preprocess(12, 10, 3, "crop"), targets.Confidence(1.7, 0.42)
    pixels = images(16)
    targets.export(graph, p, LABELS, tmp_path / "m.onnx", confidence=confidence, metadata={"run": "räuber"})
    session = targets.load(tmp_path / "m.onnx", runtime="openvino", threads=1)
    assert (session.runtime, session.labels, session.preprocess, session.confidence) == ("openvino", LABELS, p, confidence)
    assert session.metadata == targets.load(tmp_path / "m.onnx").metadata
    assert targets.parity(session, pixels, logits(graph, p, pixels)).largest_logit_difference < 1e-4  # as of the IR above


@pytest.mark.extra
@pytest.mark.parametrize("mode", ["squash", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_codes_mean_behind_preprocessing_what_they_mean_alone(tmp_path, channels, mode) -> None:
    """Pixels as bytes before scale and shift were read as codes, and most classes were others."""
    pytest.importorskip("openvino")
    graph = small_graph(channels)
    p = Preprocess(12, 10, channels, mode, 0.875, (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels])
    pixels = images(24, channels)
    x = normalise(np.stack([resize(image, p) for image in pixels]), p)
    plan = precision.candidate(formats.parse("int8"), precision.layout(graph)).plan
    given = {"plan": plan, "ranges": precision.calibrate(graph, x)}
    targets.export(graph, p, LABELS, tmp_path / "m.qdq.onnx", target="qdq", **given)
    alone = targets.openvino_run(onnx.write(plan.quantise(graph, given["ranges"])), 1)[0](x)[0]
    result = targets.parity(tmp_path / "m.qdq.onnx", pixels, alone, runtime="openvino", threads=1)
    # the same codes in the same runtime; normalised values move by an ulp, which none of these images has at the border of two codes
    assert result.passed and result.largest_logit_difference < 1e-4
    # OpenVINO requantises in float32: a sum near the border of two codes may get the neighbour, a step of 0.05 of this pool
    exact = targets.parity(tmp_path / "m.qdq.onnx", pixels, compiler.build(graph, **given)(x), runtime="openvino", threads=1)
    assert exact.passed and exact.largest_logit_difference < 0.1


@pytest.mark.extra
@pytest.mark.parametrize("mode", ["squash", "fill", "half_crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (61, 47), (500, 375), (28, 28), (900, 30)])
def test_pixels_are_pillows_here_too(size, mode) -> None:
    """OpenVINO computes the weights in float32; long division keeps them exact up to 2,700 pixels to 224."""
    pytest.importorskip("openvino")
    p = Preprocess(28, 28, 1, mode, 1.0, (0.0,), (1 / 255,))
    drawn, out = sketch(p)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 1])
    found = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", 1, 28, 28])
    graph = helper.make_graph(drawn.nodes, "preprocessing", [image], [found], list(drawn.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    core = openvino_core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    x = np.random.default_rng(7).integers(0, 256, (1, *size, 1), dtype=np.uint8)
    np.testing.assert_array_equal(compiled(x)[0][0, 0], resize(x[0], p)[:, :, 0].astype(np.float32))


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


@pytest.mark.extra
def test_a_signal_after_openvino_is_no_crash() -> None:
    """Its plugin, unloaded, would leave the thread without a stack for signal handlers."""
    pytest.importorskip("openvino")
    code = (
        "import gc, os, signal\n"
        "import numpy as np, torch\n"
        "from convsmith import targets\n"
        "from convsmith.interop import pytorch\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()\n"
        "run, _ = targets.openvino_run(targets.network_bytes(pytorch.read(net, (1, 1, 2, 2))), 1)\n"
        "run(np.zeros((1, 1, 2, 2), np.float32))\n"
        "del run\n"
        "gc.collect()\n"
        "heard = []\n"
        "signal.signal(signal.SIGINT, lambda *_: heard.append(1))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('heard', heard)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard [1]\n"), done.stderr

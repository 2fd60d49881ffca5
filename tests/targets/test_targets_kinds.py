"""Every kind of file: what it computes, what it carries, what it refuses."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from target_nets import images, logits, small_graph

from convsmith import formats, precision, targets
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.interop.onnx import QONNX
from convsmith.targets import qonnx, tensorrt_engine

LABELS = ("ant", "bee", "cat", "dog")
SQUASHED, CUT = Preprocess(12, 10, 3, "squash"), Preprocess(12, 10, 3, "crop", 0.875, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
HALF = Preprocess(12, 10, 3, "half_crop", 1.0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
CONFIDENCE = targets.Confidence(1.7, 0.42)
HERE = [name for name, target in targets.TARGETS.items() if target.plans != "must" and not name.startswith("tensorrt")]


def test_the_literal_table_is_what_the_command_line_offers() -> None:
    from convsmith.jobs.export import Kind
    from convsmith.jobs.settings import Engine

    assert set(typing.get_args(Kind)) == set(targets.TARGETS)
    assert set(typing.get_args(Engine)) == {"auto", "torch", *targets.RUNTIMES}
    assert {target.runtime for target in targets.TARGETS.values()} <= {None, *targets.RUNTIMES}
    assert all(target.help for target in targets.TARGETS.values())


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("preprocess", [SQUASHED, CUT, HALF], ids=["squashed", "cut", "half"])
def test_a_file_gives_the_scores_of_the_network_at_its_temperature(tmp_path: Path, name: str, preprocess: Preprocess) -> None:
    graph, pixels = small_graph(), images(24)
    expected = logits(graph, preprocess, pixels)
    path = tmp_path / targets.TARGETS[name].file
    given = {"confidence": CONFIDENCE, "metadata": {"run": "first"}}
    result = targets.export(graph, preprocess, LABELS, path, target=name, images=pixels, expected_logits=expected, **given)
    assert result.parity is not None and result.parity.passed and result.parity.ties == ()
    # float32 sums of 27 products of numbers of about 3, in another order
    assert result.parity.largest_logit_difference < 2e-5
    session = targets.load(path)
    assert session.labels == LABELS and session.preprocess == preprocess and session.metadata["run"] == "first"
    assert session.confidence == CONFIDENCE
    powers = np.exp(expected / 1.7)
    scores, _ = targets.predict(session, pixels, batch=5)
    np.testing.assert_allclose(scores, powers / powers.sum(1, keepdims=True), rtol=0, atol=1e-5)
    for batch, threads in ((1, 1), (16, 2)):
        again = targets.parity(path, pixels, expected, batch=batch, threads=threads)
        assert again.passed and again.ties == ()


def plan_of(name: str) -> precision.Plan:
    return precision.candidate(formats.parse(name), precision.layout(small_graph())).plan


def emulated(name: str, pixels: list[np.ndarray]) -> tuple[precision.Plan, object, np.ndarray]:
    """The plan, the ranges of activations, and what the emulation of the graph in torch says."""
    import torch

    x = normalise(np.stack([resize(image, CUT) for image in pixels]), CUT)
    plan, ranges = plan_of(name), precision.calibrate(small_graph(), x)
    return plan, ranges, precision.emulate(small_graph(), plan, ranges)(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", ["int8", "int4", "int3", "q4.12", "q8.8", "ternary"])
def test_qonnx_computes_what_the_emulation_does(tmp_path: Path, name: str) -> None:
    pixels = images(24)
    plan, ranges, expected = emulated(name, pixels)
    path = tmp_path / "m.qonnx"
    result = targets.export(
        small_graph(), CUT, LABELS, path, target="qonnx", plan=plan, ranges=ranges, images=pixels, expected_logits=expected
    )
    # float32 sums in another order may carry a value over the middle between two steps of the next activation
    assert result.parity is not None and result.parity.passed
    model = onnx.load(str(path))
    kinds = {node.op_type for node in model.graph.node if node.domain == QONNX}
    assert kinds == {"Quant"} and {entry.domain: entry.version for entry in model.opset_import}[QONNX] == 1
    weights = [node for node in model.graph.node if node.op_type == "Quant" and node.input[0] == "conv.weight"]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in weights[0].attribute}
    bits = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}[weights[0].input[3]]
    fmt = formats.parse(name)
    assert int(bits) == fmt.bits and given["signed"] == 1 and given["rounding_mode"] == b"ROUND"


def reference_quant(x: np.ndarray, scale: float, zero: float, bits: int, signed: int, narrow: int, mode: str) -> np.ndarray:
    """QONNX's own definition (docs/qonnx-custom-ops/intquant_v1.md): scale, clamp, round, scale back."""
    least = -(2 ** (bits - 1)) + narrow if signed else 0
    most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    y = np.clip(x / np.float32(scale) + np.float32(zero), least, most)
    y = {"ROUND": np.round, "CEIL": np.ceil, "FLOOR": np.floor}[mode](y)
    return ((y - np.float32(zero)) * np.float32(scale)).astype(np.float32)


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "zero", "mode"),
    [(8, 1, 0, 0, "ROUND"), (8, 1, 1, 0, "CEIL"), (4, 0, 0, 3, "FLOOR"), (3, 0, 1, 0, "ROUND"), (2, 1, 1, 0, "ROUND")],
)
def test_quant_means_what_qonnx_says(bits: int, signed: int, narrow: int, zero: int, mode: str) -> None:
    x = np.random.default_rng(0).normal(0, 3, 2000).astype(np.float32)
    x[:5] = [0.125, -0.125, 0.375, 0.0, -0.0]  # halves of the step 0.25, and both zeros
    held = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in (("s", 0.25), ("z", zero), ("b", bits))]
    node = helper.make_node("Quant", ["x", "s", "z", "b"], ["y"], domain=QONNX, signed=signed, narrow=narrow, rounding_mode=mode)
    found = run_node(node, held, x)
    np.testing.assert_array_equal(found, reference_quant(x, 0.25, zero, bits, signed, narrow, mode))


def test_bipolar_quant_gives_plus_for_both_zeros() -> None:
    x = np.array([-2, -0.0, 0, 3], np.float32)
    node = helper.make_node("BipolarQuant", ["x", "s"], ["y"], domain=QONNX)
    np.testing.assert_array_equal(run_node(node, [numpy_helper.from_array(np.asarray(0.5, np.float32), "s")], x), [-0.5, 0.5, 0.5, 0.5])


def run_node(node: onnx.NodeProto, held: list[onnx.TensorProto], x: np.ndarray) -> np.ndarray:
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [len(x)]) for name in ("x", "y")]
    graph = helper.make_graph([node], "one", value[:1], value[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(QONNX, 1)], ir_version=10)
    return targets.onnxruntime_run(qonnx.spelled_out(model).SerializeToString())[0](x)[0]


def test_qonnx_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"e8m7; QONNX speaks integers, fixed point and binary values"):
        targets.export(small_graph(), CUT, LABELS, tmp_path / "m.qonnx", target="qonnx", plan=plan_of("bf16"))
    node = helper.make_node("Trunc", ["x"], ["y"], name="t", domain=QONNX)
    with pytest.raises(UnsupportedError, match=r"no meaning for qonnx\.custom_op\.general\.Trunc \(node 't'\)"):
        run_node(node, [], np.zeros(1, np.float32))
    (tmp_path / "broken.qonnx").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"broken\.qonnx is not a whole QONNX file"):
        targets.load(tmp_path / "broken.qonnx")


def test_qdq_computes_what_the_compiled_plan_does(tmp_path: Path) -> None:
    from convsmith import compiler

    pixels = images(24)
    plan, ranges, _ = emulated("int8", pixels)
    x = normalise(np.stack([resize(image, CUT) for image in pixels]), CUT)
    expected = compiler.build(small_graph(), plan, ranges=ranges)(x)
    path = tmp_path / "m.onnx"
    given = {"plan": plan, "ranges": ranges, "images": pixels, "expected_logits": expected}
    result = targets.export(small_graph(), CUT, LABELS, path, target="qdq", **given)
    # ONNX Runtime rounds the last layer's float bias to the unit of its sums, pool step 0.05 times weight step 0.02
    assert result.parity is not None and result.parity.passed and result.parity.largest_logit_difference < 1e-3
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(str(path)).graph.node}
    with pytest.raises(UsageError, match="target 'qdq' needs a plan of number formats, such as int8"):
        targets.export(small_graph(), CUT, LABELS, tmp_path / "n.onnx", target="qdq")
    with pytest.raises(UsageError, match="target 'torchscript' takes no plan of number formats; those that do are qdq, qonnx, native"):
        targets.export(small_graph(), CUT, LABELS, tmp_path / "n.ts", target="torchscript", plan=plan)


def test_files_of_torch_that_are_none(tmp_path: Path) -> None:
    for name, said in (("m.ts", "TorchScript cannot open m.ts"), ("m.pt2", "torch.export cannot open m.pt2")):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(DataError, match=said):
            targets.load(tmp_path / name)


def test_tensorrt_says_what_is_missing_and_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnsupportedError, match=r"TensorRT is not installed here; `convsmith export RUN --to tensorrt-script` writes"):
        targets.export(small_graph(), CUT, LABELS, tmp_path / "m.engine", target="tensorrt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m.engine").write_bytes(b"plan")
    with pytest.raises(DataError, match=r"m\.engine\.json, which belongs beside m\.engine, cannot be read"):
        targets.load(tmp_path / "m.engine")
    (tmp_path / "m.engine.json").write_text(json.dumps({"labels": "[]"}))
    with pytest.raises(UnsupportedError, match="TensorRT is not installed here"):
        targets.load(tmp_path / "m.engine")


def test_the_build_script_stands_alone_and_knows_the_right_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "build_engine.py"
    result = targets.export(small_graph(), CUT, LABELS, path, target="tensorrt-script", confidence=CONFIDENCE)
    assert [file.name for file in result.files] == ["build_engine.py", "build_engine.onnx", "build_engine.npz"] and result.parity is None
    stored = np.load(tmp_path / "build_engine.npz")
    run, _ = targets.onnxruntime_run(path.with_suffix(".onnx"))
    np.testing.assert_array_equal(run(stored["x_nchw"])[0], stored["logits"])
    assert json.loads(str(stored["fields"]))["temperature"] == "1.7"
    assert "convsmith" not in path.read_text()
    script: dict[str, object] = {"__name__": "script", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), script)
    script["build"] = lambda network: b"plan"
    for shift, code in ((0.0, 0), (1.0, 3)):  # an engine that answers as ONNX Runtime does, and one that does not
        script["Engine"] = lambda plan, shift=shift: lambda x: run(x)[0] + np.float32(shift)
        assert script["main"]() == code
        assert path.with_suffix(".engine").exists() == (code == 0)
        path.with_suffix(".engine").unlink(missing_ok=True)


def test_the_engine_is_built_and_run_by_the_calls_that_tensorrt_10_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_tensorrt import install

    trt = install(monkeypatch)
    plan = tensorrt_engine.build(targets.network_bytes(small_graph()))
    assert trt.profile == {"x": ((1, 3, 12, 10), (16, 3, 12, 10), (64, 3, 12, 10))} and trt.cleared == ["TF32"]
    engine = tensorrt_engine.Engine(plan)
    x = np.random.default_rng(0).standard_normal((70, 3, 12, 10)).astype(np.float32)
    np.testing.assert_array_equal(engine(x), targets.onnxruntime_run(targets.network_bytes(small_graph()))[0](x)[0])
    assert trt.batches == [64, 6]
    engine.close()
    assert trt.held == {}

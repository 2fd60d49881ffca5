"""The preprocessing graph against Pillow itself, bit for bit."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.targets.preprocessing import sketch

SHAPES = ((1, 1), (7, 5), (28, 28), (32, 48), (96, 64))


@functools.cache
def session(preprocess: Preprocess) -> onnxruntime.InferenceSession:
    drawn, out = sketch(preprocess)
    c, h, w = preprocess.channels, preprocess.height, preprocess.width
    graph = helper.make_graph(
        drawn.nodes,
        "preprocessing",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", c])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", c, h, w])],
        list(drawn.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def assert_same(preprocess: Preprocess, x_nhwc: np.ndarray) -> None:
    want = normalise(np.stack([resize(image, preprocess) for image in x_nhwc]), preprocess)
    got = session(preprocess).run(None, {"image": x_nhwc})[0]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


def preprocess(side: tuple[int, int], channels: int, mode: str, fraction: float) -> Preprocess:
    return Preprocess(*side, channels, mode, fraction, (0.48, 0.45, 0.41)[:channels], (0.22, 0.25, 0.3)[:channels])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    side=st.sampled_from(SHAPES),
    channels=st.sampled_from((1, 3)),
    mode=st.sampled_from(("squash", "crop", "fill", "half_crop")),
    fraction=st.sampled_from((1.0, 0.875, 0.333)),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    batch=st.integers(1, 3),
    contrast=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_size_gives_pillows_bits(side, channels, mode, fraction, size, batch, contrast, seed) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (batch, *size, channels), dtype=np.uint8)
    assert_same(preprocess(side, channels, mode, fraction), np.where(x > 127, 255, 0).astype(np.uint8) if contrast else x)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 301), (301, 1), (3000, 20), (20, 3000), (2048, 3), (4096, 28), (28, 28), (27, 29), (641, 481)]
)
@pytest.mark.parametrize("mode", ["squash", "crop", "fill", "half_crop"])
def test_odd_sizes(size, mode) -> None:
    x = np.random.default_rng(3).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    assert_same(preprocess((28, 28), 3, mode, 1.0), x)


def test_an_image_of_the_networks_size_passes_unchanged() -> None:
    p = Preprocess(9, 11, 1, "squash", 1.0, (0.0,), (1 / 255,))  # scale 1, shift 0: pixels come out as they are
    x = np.random.default_rng(0).integers(0, 256, (2, 9, 11, 1), dtype=np.uint8)
    np.testing.assert_array_equal(session(p).run(None, {"image": x})[0], x.transpose(0, 3, 1, 2).astype(np.float32))


def test_white_stays_white() -> None:
    """The 22-bit weights of a long reduction need not add up to one; no pixel may wrap around."""
    p = Preprocess(28, 28, 1, "squash", 1.0, (0.0,), (1 / 255,))
    for size in ((1999, 17), (17, 1999), (5, 5)):
        x = np.full((1, *size, 1), 255, np.uint8)
        assert (session(p).run(None, {"image": x})[0] == 255).all()


def weights(size: int, out: int) -> np.ndarray:
    """Pillow's integer weights by its own recipe in doubles, one output after the other: (out, size)."""
    scale = size / out
    support = max(scale, 1.0)
    found = np.zeros((out, size), np.int64)
    for i in range(out):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        w = np.maximum(0.0, 1.0 - np.abs((np.arange(first, last) - centre + 0.5) * (1.0 / support)))
        total = 0.0
        for value in w.tolist():
            total += value
        found[i, first:last] = (0.5 + w / total * (1 << 22)).astype(np.int64)
    return found


def graph_weights(size: int, out: int) -> np.ndarray:
    """The integer weights as the graph computes them, put together from their digits."""
    drawn, _ = sketch(Preprocess(1, out, 1, "squash", 1.0, (0.5,), (0.5,)))
    name = "preprocess/resize/columns/digits"
    nodes = drawn.nodes[: next(index for index, node in enumerate(drawn.nodes) if node.output[0] == name) + 1]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 1])
    found = helper.make_tensor_value_info(name, TensorProto.UINT8, [3 * out, "W"])
    graph = helper.make_graph(nodes, "weights", [image], [found], list(drawn.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    digits = session.run(None, {"image": np.zeros((1, 1, size, 1), np.uint8)})[0].astype(np.int64)
    return digits[:out] * 2**15 + digits[out : 2 * out] * 2**7 + digits[2 * out :]


def test_weights_are_those_of_pillows_recipe() -> None:
    rng = np.random.default_rng(5)
    pairs = [(a, b) for a in range(1, 60, 7) for b in (1, 3, 8, 16)]
    pairs += [(int(a), int(b)) for a, b in zip(rng.integers(60, 2500, 20), rng.integers(1, 300, 20), strict=True)]
    for size, out in [*pairs, (2048, 1), (4096, 2), (6144, 3), (20000, 64)]:
        np.testing.assert_array_equal(graph_weights(size, out), weights(size, out), err_msg=f"{size} to {out}")


def test_names_tell_what_a_node_does() -> None:
    drawn, out = sketch(Preprocess(8, 8, 3))
    assert out == "preprocess/normalised"
    assert all(node.name.startswith("preprocess/") and node.output[0].startswith("preprocess/") for node in drawn.nodes)
    assert "preprocess/crop/cut" in {node.name for node in drawn.nodes}


def test_black_is_added_only_where_the_mode_wants_it() -> None:
    kinds = {
        mode: {node.op_type for node in sketch(Preprocess(8, 8, 3, mode))[0].nodes} for mode in ("squash", "crop", "fill", "half_crop")
    }
    assert {mode for mode, ops in kinds.items() if "Pad" in ops} == {"fill", "half_crop"}
    assert {mode for mode, ops in kinds.items() if "Slice" in ops} == {"crop", "half_crop"}

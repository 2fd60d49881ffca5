"""Emulation against direct casts, against arithmetic by hand, and against the network itself."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from precision_nets import pictures, residual_graph

from convsmith import formats, precision
from convsmith.errors import DataError, UsageError
from convsmith.formats import Format
from convsmith.interop import pytorch
from convsmith.precision import Plan, Rule
from convsmith.precision.affine_range import affine_range
from convsmith.precision.emulation import round_weights


def run(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("plan", [Plan(), precision.uniform(Format.float(8, 23), Format.float(8, 23))])
def test_float32_is_the_identity_bit_for_bit(plan) -> None:
    graph = residual_graph()
    plain = run(pytorch.write(graph), pictures())
    emulated = run(precision.emulate(graph, plan), pictures())
    np.testing.assert_array_equal(emulated.view(np.uint32), plain.view(np.uint32))


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [
        (Format.float(5, 10), np.float16),
        (Format.float(8, 7), ml_dtypes.bfloat16),
        (Format.float(4, 3, specials="fn"), ml_dtypes.float8_e4m3fn),
    ],
)
def test_weights_alone_are_casts(fmt, dtype) -> None:
    graph = residual_graph()
    cast = {name: array.astype(dtype).astype(np.float32) for name, array in graph.weights.items()}
    expected = run(pytorch.write(type(graph)(graph.name, graph.inputs, graph.outputs, graph.nodes, cast)), pictures())
    emulated = precision.emulate(graph, precision.uniform(fmt, None))
    np.testing.assert_array_equal(run(emulated, pictures()), expected)
    assert {a.format_name for a in emulated.assignments if a.role == "weight"} == {str(fmt)}
    assert {a.format_name for a in emulated.assignments if a.role == "activation"} == {"float32"}


def test_activations_are_rounded_where_they_are_stored() -> None:
    """The same network written out by hand in torch, with a cast to fp16 after each stored value."""
    graph = residual_graph()
    w = {name: torch.from_numpy(array.copy()) for name, array in graph.weights.items()}

    def half(x: torch.Tensor) -> torch.Tensor:
        return x.half().float()

    x = half(torch.from_numpy(pictures()))
    stem = half(torch.relu(torch.nn.functional.conv2d(x, w["stem.weight"], w["stem.bias"], padding=1)))
    block = half(torch.nn.functional.conv2d(stem, w["block.conv.weight"]))
    added = half(torch.relu(block + stem))
    mean = half(torch.nn.functional.max_pool2d(added, 2).mean(dim=(2, 3)))
    expected = half(torch.nn.functional.linear(mean, w["fc.weight"], w["fc.bias"])).numpy()
    got = run(precision.emulate(graph, precision.uniform(None, Format.float(5, 10))), pictures())
    # torch may add the 16 numbers of the average in another order: at most one unit in the last place of fp16 after it
    np.testing.assert_allclose(got, expected, rtol=2**-10, atol=2**-12)
    assert (got == expected).mean() > 0.9
    np.testing.assert_array_equal(got, got.astype(np.float16))


def test_every_stored_value_belongs_to_the_format() -> None:
    graph, fmt = residual_graph(), Format.fixed(4, 3)
    emulated = precision.emulate(graph, precision.uniform(fmt, fmt))
    seen = {}
    plain = emulated.network.on_output
    emulated.network.on_output = lambda node, x: seen.setdefault(node.name, plain(node, x))
    run(emulated, 3 * pictures())
    for name in ("relu", "block.conv", "block.relu", "pool", "average", "fc"):
        scaled = seen[name].numpy() * 8
        assert (scaled == np.round(scaled)).all() and np.abs(scaled).max() <= 64
    for name, array in emulated.network.graph.weights.items():
        np.testing.assert_array_equal(array * 8, np.round(array * 8), err_msg=name)


def test_int8_weights_have_a_step_for_each_output_channel() -> None:
    graph = residual_graph()
    plan = precision.uniform(Format.integer(8), None)
    rounded = round_weights(graph, precision.resolve(plan, graph)).weights
    for name in ("stem.weight", "block.conv.weight", "fc.weight"):
        w = graph.weights[name].astype(np.float64)
        step = np.abs(w).reshape(len(w), -1).max(axis=1).reshape(-1, *[1] * (w.ndim - 1)) / 127
        np.testing.assert_allclose(rounded[name], np.round(w / step) * step, rtol=1e-6, atol=1e-9)
        assert np.abs(rounded[name] - w).max() <= (0.5 + 1e-5) * step.max()
    np.testing.assert_array_equal(rounded["fc.bias"], graph.weights["fc.bias"])


def test_int8_activations_against_torchs_fake_quantisation() -> None:
    graph = residual_graph()
    x = pictures(32)
    ranges = precision.calibrate(graph, x)
    plan = Plan((Rule("fc", "activation", Format.integer(8), scale="tensor"),))
    plain = torch.from_numpy(run(pytorch.write(graph), x))
    low, high = float(plain.min()), float(plain.max())
    scale = (high - low) / 255
    expected = torch.fake_quantize_per_tensor_affine(plain, scale, round(-low / scale), 0, 255).numpy()
    got = run(precision.emulate(graph, plan, ranges), x)
    # torch multiplies by the reciprocal of the step: a value at a tie may go the other way, by one step
    assert np.abs(got - expected).max() <= 1.001 * scale
    assert (np.abs(got - expected) < 1e-5).mean() > 0.95


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 3.0), (-5.0, 0.0), (0.0, 0.0), (-1e-30, 1e-30), (-2.0, 2.0)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_affine_range_holds_zero_and_the_ends(low, high, bits) -> None:
    step, least, most = affine_range(low, high, Format.integer(bits))
    assert most - least == 2**bits - 1 and least <= 0 <= most
    assert least * step <= low + 0.5001 * step and most * step >= high - 0.5001 * step
    symmetric_step, least, most = affine_range(low, high, Format.integer(bits, symmetric=True))
    assert least == -most == 1 - 2 ** (bits - 1)
    assert most * symmetric_step >= max(-low, high) * (1 - 1e-6)


def test_stochastic_rounding_repeats_itself_and_changes_between_calls() -> None:
    graph = residual_graph()
    plan = Plan((Rule("*", "activation", Format.fixed(8, 2), rounding="stochastic"),))
    one, two = (precision.emulate(graph, plan) for _ in range(2))
    first = run(one, pictures())
    np.testing.assert_array_equal(first, run(two, pictures()))
    assert (run(one, pictures()) != first).any()
    assert (run(precision.emulate(graph, plan, seed=1), pictures()) != first).any()


def test_modules_and_shared_weights() -> None:
    torch.manual_seed(0)
    shared = torch.nn.Conv2d(3, 3, 1)
    module = torch.nn.Sequential(shared, torch.nn.ReLU(), shared).eval()
    with pytest.raises(UsageError, match="emulating a torch module needs an example of its input"):
        precision.emulate(module, Plan())
    graph = pytorch.read(module, (1, 3, 8, 8))
    first = next(a.layer for a in precision.tensors(graph) if a.role == "weight")
    weights_read = {a.tensor for a in precision.tensors(graph) if a.role == "weight"}
    if len(weights_read) == 1:
        with pytest.raises(UsageError, match="share a weight but the plan gives them two formats"):
            precision.emulate(graph, Plan((Rule(first, "weight", Format.float(5, 2)),)))


def test_what_cannot_be_emulated() -> None:
    graph = residual_graph()
    scaled = precision.uniform(None, Format.integer(8))
    with pytest.raises(UsageError, match="layer 'x': int8 activations need ranges; give calibration images"):
        precision.emulate(graph, scaled)
    with pytest.raises(UsageError, match="scaled numbers saturate; overflow 'wrap' needs scale 'none' or 'dynamic', not 'tensor'"):
        precision.emulate(graph, Plan((Rule("fc", "activation", Format.integer(8), scale="tensor", overflow="wrap"),)), pictures())
    with pytest.raises(UsageError, match="a graph is emulated for inference"):
        precision.emulate(graph, Plan()).train()
    other = precision.calibrate(residual_graph(), pictures())
    missing = precision.Ranges({}, 1)
    with pytest.raises(UsageError, match="the calibration has no tensor 'x'; calibrate the same network"):
        precision.emulate(graph, scaled, missing)
    assert other["x"].low < 0


def test_calibration_sees_every_stored_activation() -> None:
    graph, x = residual_graph(), pictures(40)
    ranges = precision.calibrate(graph, x, batch=7)
    assert set(ranges.tensors) == {"x", "relu", "block.conv", "block.relu", "average", "fc"}
    assert (ranges["x"].low, ranges["x"].high) == (float(x.min()), float(x.max()))
    low, high = ranges["x"].inner(99.0)
    np.testing.assert_allclose((low, high), np.percentile(x, (1, 99)), atol=1e-6)
    assert ranges["relu"].low == 0 and ranges["relu"].inner(90.0)[0] == 0
    assert ranges.to_dict()["images"] == 40
    with pytest.raises(DataError, match=r"needs float32 images \(n, channels, height, width\), at least one; got shape \(0, 3, 8, 8\)"):
        precision.calibrate(graph, pictures(0))
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="is not finite on the calibration images"):
        precision.calibrate(graph, x)


def test_the_sample_of_a_large_tensor_stays_small_and_even() -> None:
    from convsmith.precision.calibration import SAMPLE, _Watch

    watch = _Watch()
    values = np.arange(1_000_000, dtype=np.float32)
    for part in np.array_split(values, 7):
        watch.add(part)
    found = watch.range("t")
    assert SAMPLE // 2 < found.sample.size <= 2 * SAMPLE
    assert len(set(np.diff(found.sample).tolist())) == 1
    assert found.inner(99.0)[1] == pytest.approx(990_000, rel=1e-4)


@pytest.mark.parametrize(("largest", "bits"), [(0.0, 1), (0.49, 0), (0.5, 1), (0.99, 1), (1.0, 2), (1.9, 2), (2.0, 3), (-7.5, 4), (8.0, 5)])
def test_integer_bits_hold_the_value(largest, bits) -> None:
    assert precision.integer_bits(largest) == bits
    if largest:
        fine = Format.fixed(bits, 20 - bits)
        assert abs(formats.round_scalar(largest, fine) - largest) <= 2.0 ** -(20 - bits)


def test_bytes_of_weights() -> None:
    graph = residual_graph()
    numbers = sum(array.size for array in graph.weights.values())
    assert precision.weight_bytes(graph) == 4 * numbers
    kernels, biases = 4 * 3 * 9 + 4 * 4 + 3 * 4, 4 + 3
    half = Format.float(5, 10)
    assert precision.weight_bytes(graph, precision.uniform(half, half)) == 2 * (kernels + biases)
    steps = 4 + 4 + 3
    assert precision.weight_bytes(graph, precision.uniform(Format.integer(8), None)) == kernels + 4 * steps + 4 * biases
    three = precision.uniform(Format.integer(3), None)
    packed = sum(-(-n * 3 // 8) for n in (108, 16, 12))
    assert precision.weight_bytes(graph, three) == packed + 4 * steps + 4 * biases

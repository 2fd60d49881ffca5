"""Factorisations of one layer: exact where theory says so, the best approximation elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from networks import one_convolution, run_onnx, same_function

from convsmith import redesign
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.redesign import Edit

RNG = np.random.default_rng(3)
PLAIN = {"pads": (1, 1, 1, 1)}
ODD = {"pads": (1, 0, 2, 1), "strides": (2, 1), "dilations": (1, 2)}
"""Everything uneven at once."""


def weights_error(graph: Graph, edited: Graph, name: str = "y") -> float:
    """Return the relative squared error of the linear map, from its answers to unit impulses."""
    inputs, size = graph.inputs[0].shape[1], graph.inputs[0].shape[2]
    x = np.zeros((inputs + 1, inputs, size, size))
    for channel in range(inputs):
        x[channel, channel, size // 2, size // 2] = 1
    y, z = run_onnx(graph, x), run_onnx(edited, x)
    return float(np.square((y - y[-1]) - (z - z[-1])).sum() / np.square(y - y[-1]).sum())


@pytest.mark.parametrize("geometry", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("spatial", {"rank": 18}),
        ("tucker", {"out_rank": 8, "in_rank": 6}),
        ("separable", {"multiplier": 8}),
        ("cp", {"rank": 48}),
    ],
)
def test_full_rank_is_exact(kind: str, settings: dict[str, int], geometry: dict[str, tuple[int, ...]]) -> None:
    graph = one_convolution(RNG.standard_normal((8, 6, 3, 3)), **geometry)
    edited = redesign.apply(graph, [Edit(kind, "conv", settings)])
    same_function(graph, edited, tolerance=2e-3 if kind == "cp" else 2e-5)
    assert edited.nodes[-1].name == "conv" and len(edited.nodes) > 1


def test_a_bottleneck_of_full_width_is_exact_and_one_with_relu_is_another_function() -> None:
    graph = one_convolution(RNG.standard_normal((6, 6, 3, 3)), **PLAIN)
    same_function(graph, redesign.apply(graph, [Edit("bottleneck", "conv", {"width": 6})]))
    edited = redesign.apply(graph, [Edit("bottleneck", "conv", {"width": 6, "activation": "relu"})])
    assert [node.op for node in edited] == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert np.abs(run_onnx(graph, np.ones((1, 6, 12, 12))) - run_onnx(edited, np.ones((1, 6, 12, 12)))).max() > 0.1


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_stack_reaches_every_5x5_kernel_with_9_times_the_channels(strides: tuple[int, int]) -> None:
    graph = one_convolution(RNG.standard_normal((3, 2, 5, 5)), pads=(2, 2, 2, 2), strides=strides)
    edited = redesign.apply(graph, [Edit("stack", "conv", {"width": 18})])
    assert [node.attributes["kernel_shape"] for node in edited] == [(3, 3), (3, 3)]
    same_function(graph, edited)


def test_a_stack_recovers_a_kernel_that_is_one() -> None:
    a, b, c = RNG.standard_normal((4, 3, 3, 3)), RNG.standard_normal((4, 4, 3, 3)), RNG.standard_normal((5, 4, 3, 3))
    five, seven = composed(b, a), composed(c, composed(b, a))
    # a local minimum of the alternation may remain of the longer one
    for kernel, pads, most in ((five, (2,) * 4, 0.02), (seven, (3,) * 4, 0.1)):
        graph = one_convolution(kernel, size=14, pads=pads)
        edited = redesign.apply(graph, [Edit("stack", "conv", {"width": 4})])
        assert len(edited.nodes) == (kernel.shape[2] - 1) // 2
        assert weights_error(graph, edited) < most


def composed(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the kernel of a convolution after another, by the definition."""
    side = first.shape[2] + second.shape[2] - 1
    whole = np.zeros((second.shape[0], first.shape[1], side, side))
    for y in range(second.shape[2]):
        for x in range(second.shape[3]):
            whole[:, :, y : y + first.shape[2], x : x + first.shape[3]] += np.einsum("km,mcrs->kcrs", second[:, :, y, x], first)
    return whole


def test_rank_one_kernels_separate_exactly() -> None:
    down, across = RNG.standard_normal((4, 5, 3)), RNG.standard_normal(3)
    graph = one_convolution(np.einsum("kcr,s->kcrs", down, across), **ODD)
    edited = redesign.apply(graph, [Edit("spatial", "conv", {"rank": 4})])
    assert [node.attributes["kernel_shape"] for node in edited] == [(3, 1), (1, 3)]
    same_function(graph, edited)


def test_depthwise_kernels_separate_channel_by_channel() -> None:
    gauss = np.einsum("cr,cs->crs", RNG.standard_normal((6, 5)), RNG.standard_normal((6, 5)))[:, None]
    graph = one_convolution(gauss, group=6, pads=(2, 2, 2, 2), strides=(2, 2))
    edited = redesign.apply(graph, [Edit("spatial", "conv", {"rank": 1})])
    assert [node.attributes["group"] for node in edited] == [6, 6]
    same_function(graph, edited)
    full = one_convolution(RNG.standard_normal((6, 1, 3, 3)), group=6, pads=(1, 1, 1, 1))
    same_function(full, redesign.apply(full, [Edit("spatial", "conv", {"rank": 3})]))


@pytest.mark.parametrize("rank", [2, 5, 9])
def test_the_error_of_a_spatial_pair_is_that_of_eckart_and_young(rank: int) -> None:
    w = RNG.standard_normal((7, 5, 3, 3))
    graph = one_convolution(w, **PLAIN)
    values = np.linalg.svd(w.transpose(1, 2, 3, 0).reshape(15, 21), compute_uv=False)
    error = weights_error(graph, redesign.apply(graph, [Edit("spatial", "conv", {"rank": rank})]))
    assert error == pytest.approx(np.square(values[rank:]).sum() / np.square(values).sum(), rel=1e-4)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_error_of_a_separable_layer_is_that_of_eckart_and_young_per_channel(multiplier: int) -> None:
    w = RNG.standard_normal((7, 5, 3, 3))
    graph = one_convolution(w, **PLAIN)
    values = np.array([np.linalg.svd(w[:, c].reshape(7, 9), compute_uv=False) for c in range(5)])
    error = weights_error(graph, redesign.apply(graph, [Edit("separable", "conv", {"multiplier": multiplier})]))
    assert error == pytest.approx(np.square(values[:, multiplier:]).sum() / np.square(values).sum(), rel=1e-4)


def test_tucker_finds_a_tensor_of_low_rank_and_beats_the_truncated_singular_vectors() -> None:
    core, k, c = RNG.standard_normal((3, 2, 3, 3)), RNG.standard_normal((8, 3)), RNG.standard_normal((6, 2))
    low = np.einsum("ki,ijrs,cj->kcrs", k, core, c)
    graph = one_convolution(low, **PLAIN)
    assert weights_error(graph, redesign.apply(graph, [Edit("tucker", "conv", {"out_rank": 3, "in_rank": 2})])) < 1e-9
    w = RNG.standard_normal((8, 6, 3, 3))
    error = weights_error(
        one_convolution(w, **PLAIN), redesign.apply(one_convolution(w, **PLAIN), [Edit("tucker", "conv", {"out_rank": 3, "in_rank": 2})])
    )
    outputs = np.linalg.svd(w.reshape(8, -1))[0][:, :3]
    inputs = np.linalg.svd(w.transpose(1, 0, 2, 3).reshape(6, -1))[0][:, :2]
    hosvd = np.einsum("ka,la,lcrs,cb,db->kdrs", outputs, outputs, w, inputs, inputs)
    assert error <= np.square(w - hosvd).sum() / np.square(w).sum() + 1e-6


def test_cp_finds_a_tensor_of_low_rank() -> None:
    k, c, p = RNG.standard_normal((8, 4)), RNG.standard_normal((6, 4)), RNG.standard_normal((9, 4))
    graph = one_convolution(np.einsum("kz,cz,pz->kcp", k, c, p).reshape(8, 6, 3, 3), **ODD)
    edited = redesign.apply(graph, [Edit("cp", "conv", {"rank": 4})])
    assert weights_error(graph, edited) < 0.05
    assert [node.attributes["group"] for node in edited] == [1, 4, 1]


def test_cp_terms_do_not_cancel() -> None:
    # the derivative of a rank one tensor has rank 3, but terms of rank 2 come as near as one likes by growing without limit
    a, b = np.eye(3)[0], np.eye(3)[1]
    tensor = sum(np.einsum("i,j,k->ijk", *vectors) for vectors in ((a, a, b), (a, b, a), (b, a, a)))
    from convsmith.redesign.tensors import canonical, rebuilt

    factors = canonical(tensor, 2)
    sizes = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)
    assert np.square(tensor - rebuilt(factors)).sum() / np.square(tensor).sum() < 0.2
    assert np.square(sizes).sum() < 100 * np.square(tensor).sum()


@pytest.mark.parametrize("turned", [0, 1])
def test_dense_layers_split_exactly_at_their_rank(turned: int) -> None:
    w = (RNG.standard_normal((10, 3)) @ RNG.standard_normal((3, 12))).astype(np.float32)
    weights = {"w": w if turned else np.ascontiguousarray(w.T), "b": RNG.standard_normal(10).astype(np.float32)}
    nodes = (Node("fc", "Gemm", ("x", "w", "b"), ("y",), {"transB": turned}),)
    graph = Graph("g", (Value("x", (-1, 12)),), (Value("y", (-1, 10)),), nodes, weights)
    same_function(graph, redesign.apply(graph, [Edit("low_rank", "fc", {"rank": 3})]))
    low = redesign.apply(graph, [Edit("low_rank", "fc", {"rank": 1})])
    rebuilt = np.linalg.svd(w.astype(np.float64))
    x = RNG.standard_normal((4, 12))
    wanted = x @ (rebuilt[1][0] * np.outer(rebuilt[0][:, 0], rebuilt[2][0])).T + weights["b"]
    np.testing.assert_allclose(run_onnx(low, x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_1x1_convolutions_are_dense_layers_of_pixels() -> None:
    w = (RNG.standard_normal((10, 3)) @ RNG.standard_normal((3, 12)))[:, :, None, None]
    graph = one_convolution(w, strides=(2, 2))
    edited = redesign.apply(graph, [Edit("low_rank", "conv", {"rank": 3})])
    same_function(graph, edited)
    assert edited.nodes[0].attributes["strides"] == (2, 2)


def test_edits_that_cannot_be_say_why() -> None:
    graph = one_convolution(RNG.standard_normal((6, 1, 3, 3)), group=6, **PLAIN)
    with pytest.raises(UnsupportedError, match="node 'conv' cannot become 'tucker': it has 6 groups, only 1 can be factorised"):
        redesign.apply(graph, [Edit("tucker", "conv", {"out_rank": 2, "in_rank": 2})])
    with pytest.raises(UsageError, match=r"no edit of kind 'tuker'.*Did you mean 'tucker'"):
        redesign.apply(graph, [Edit("tuker", "conv")])
    with pytest.raises(UsageError, match=r"no node 'con' in graph 'g'.*Did you mean 'conv'"):
        redesign.apply(graph, [Edit("spatial", "con", {"rank": 1})])
    with pytest.raises(UsageError, match="needs rank, a whole number of at least 1; got None"):
        redesign.apply(graph, [Edit("spatial", "conv")])
    with pytest.raises(UsageError, match="has rank 4; the layer allows at most 3"):
        redesign.apply(graph, [Edit("spatial", "conv", {"rank": 4})])
    with pytest.raises(UnsupportedError, match="a stack of 3x3 stands for 5x5, 7x7"):
        redesign.apply(one_convolution(RNG.standard_normal((2, 2, 3, 3))), [Edit("stack", "conv", {"width": 2})])
    with pytest.raises(UnsupportedError, match=r"node 'conv' \(Conv\) is no dense layer"):
        redesign.apply(graph, [Edit("low_rank", "conv", {"rank": 1})])


def test_shared_weights_stay_for_their_other_readers() -> None:
    w = RNG.standard_normal((4, 4, 3, 3)).astype(np.float32)
    a = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    nodes = (Node("one", "Conv", ("x", "w"), ("one",), a), Node("two", "Conv", ("one", "w"), ("y",), a))
    graph = Graph("g", (Value("x", (-1, 4, 8, 8)),), (Value("y", (-1, 4, 8, 8)),), nodes, {"w": w})
    edited = redesign.apply(graph, [Edit("tucker", "one", {"out_rank": 4, "in_rank": 4})])
    np.testing.assert_array_equal(edited.weights["w"], w)
    same_function(graph, edited)

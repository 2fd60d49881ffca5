"""Edits of structure: branches, sequences, channels, blocks, and edits as data."""

from __future__ import annotations

import json
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from networks import read, run_onnx, same_function
from torch import nn

from convsmith import models, redesign
from convsmith.analysis import analyse
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph
from convsmith.redesign import KINDS, Edit
from convsmith.redesign.channels import trace


def need(name: str) -> None:
    """Skip a network whose package is not there."""
    if name.startswith("timm/") and (find_spec("timm") is None or find_spec("torchvision") is None):
        pytest.skip("timm is not installed")


class Branches(nn.Module):
    """RepVGG's block, ACNet's block and an average pooling, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.k3, self.k1, self.identity = conv(6, 6, 3, padding=1), conv(6, 6, 1), nn.BatchNorm2d(6)
        self.square, self.row, self.column = (conv(6, 4, k, padding=p) for k, p in ((3, 1), ((1, 3), (0, 1)), ((3, 1), (1, 0))))
        self.strided, self.pool = conv(4, 4, 3, stride=2, padding=1, groups=2), nn.AvgPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.k3(x) + self.k1(x) + self.identity(x))
        x = torch.relu(self.square(x) + self.row(x) + self.column(x))
        return self.strided(x) + self.pool(x)


def conv(channels: int, width: int, kernel: int | tuple[int, int], **options: object) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel, bias=False, **options), nn.BatchNorm2d(width))  # type: ignore[arg-type]


def test_parallel_branches_become_one_convolution() -> None:
    torch.manual_seed(0)
    graph = read(Branches(), (1, 6, 9, 9))
    merged = redesign.apply(graph, [Edit("merge")])
    assert [node.op for node in merged] == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert [node.attributes["group"] for node in merged if node.op == "Conv"] == [1, 1, 2]
    same_function(graph, merged)
    assert redesign.proposals(merged, ["merge"]) == []


def test_a_whole_repvgg_becomes_a_plain_network() -> None:
    need("timm/repvgg_a0")
    torch.manual_seed(0)
    graph = read(models.load("timm/repvgg_a0", classes=5, input_size=(32, 32)), (1, 3, 32, 32))
    merged = redesign.apply(graph, [Edit("merge")])
    assert {node.op for node in merged} <= {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    same_function(graph, merged, tolerance=1e-4)


def test_a_branch_that_others_read_and_different_inputs_stay() -> None:
    torch.manual_seed(0)

    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.one(x)
            return torch.relu(y + self.two(x)) * y

    graph = read(Tapped(), (1, 4, 6, 6))
    assert redesign.proposals(graph, ["merge"]) == [] and redesign.apply(graph, [Edit("merge")]) == graph
    with pytest.raises(UnsupportedError, match="adds no two linear branches of the same input"):
        redesign.apply(graph, [Edit("merge", next(node.name for node in graph if node.op == "Add"))])


@pytest.mark.parametrize("first", [(3, 1), (1, 3)], ids=["3x3 then 1x1", "1x1 then 3x3"])
def test_a_factorised_layer_joins_again(first: tuple[int, int]) -> None:
    torch.manual_seed(0)
    kernels = [nn.Conv2d(4, 6, first[0], padding=first[0] // 2), nn.Conv2d(6, 5, first[1], padding=0)]
    graph = read(nn.Sequential(*kernels), (1, 4, 8, 8))
    joined = redesign.apply(graph, [Edit("join", "1")])
    assert [node.attributes["kernel_shape"] for node in joined] == [(3, 3)]
    same_function(graph, joined)
    padded = read(nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 5, 3, padding=1)), (1, 4, 8, 8))
    with pytest.raises(UnsupportedError, match="put into it exactly"):
        redesign.apply(padded, [Edit("join", "1")])


def zeroed(graph: Graph, edit: Edit) -> Graph:
    """Return the graph with the channels of an edit silenced: every weight that makes them, and shifts and scales, zero."""
    channels = trace(graph)
    gone = {channels.root(int(channels.outputs[edit.node][n])) for n in edit.settings["channels"]}  # type: ignore[union-attr]
    weights = dict(graph.weights)
    makers = {name for node in graph if node.op in ("Conv", "Gemm") for name in node.inputs[1:]}
    makers |= {name for node in graph if node.op == "BatchNormalization" for name in node.inputs[1:3]}
    for name, axes in channels.slices.items():
        for units in axes:
            if name in makers and (units.axis == 0):
                array = weights[name].copy()
                array[[i for i, root in enumerate(channels.roots(units.ids)) if int(root) in gone]] = 0
                weights[name] = array
    return Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, weights)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet20", 32),
        ("mobilenet_v2", 32),
        pytest.param("timm/densenet121", 32, marks=pytest.mark.slow),
        ("timm/mobilenetv3_small_050", 32),
    ],
)
def test_pruned_networks_are_those_with_the_channels_silenced(name: str, size: int) -> None:
    need(name)
    torch.manual_seed(0)
    graph = read(models.load(name, classes=5, input_size=(size, size)), (1, 3, size, size))
    edits = redesign.proposals(graph, ["prune"])
    layers = sorted({edit.node for edit in edits})
    for node in [layers[0], layers[len(layers) // 2], layers[-1]]:
        edit = next(edit for edit in edits if edit.node == node)
        pruned = redesign.apply(graph, [edit])
        assert analyse(pruned).parameters < analyse(graph).parameters
        silent = zeroed(graph, edit)
        if name == "timm/mobilenetv3_small_050":  # hard swish and gates of zero are zero, sums over channels are not
            assert run_onnx(pruned, np.zeros((1, 3, size, size))).shape == (1, 5)
        else:
            same_function(silent, pruned, tolerance=1e-4)


def test_all_of_a_trunk_goes_together() -> None:
    graph = read(models.load("resnet20", classes=5), (1, 3, 32, 32))
    pruned = redesign.apply(graph, [Edit("prune", "conv1", {"channels": (1, 5)})])
    for layer in ("conv1", "layer1.0.conv2", "layer1.2.conv2"):
        assert pruned.weights[f"{layer}.weight"].shape[0] == 14
    # the padded shortcut carries them on
    assert pruned.weights["layer2.1.conv2.weight"].shape[0] == 30 and pruned.weights["linear.weight"].shape[1] == 62
    only = redesign.apply(graph, [Edit("prune", "layer3.2.conv2", {"channels": (0, 63)})])
    assert only.weights["layer2.0.conv2.weight"].shape[0] == 32 and only.weights["layer3.0.conv2.weight"].shape[0] == 62


def test_what_cannot_be_pruned_is_said() -> None:
    graph = read(models.load("resnet20", classes=5), (1, 3, 32, 32))
    with pytest.raises(UnsupportedError, match="edit 'prune' of node 'linear': these channels are tied to the network's input, its output"):
        redesign.apply(graph, [Edit("prune", "linear", {"channels": (0,)})])
    with pytest.raises(UsageError, match="needs channels between 0 and 15; got \\(16,\\)"):
        redesign.apply(graph, [Edit("prune", "conv1", {"channels": (16,)})])
    with pytest.raises(UsageError, match="nothing would be left of weight"):
        redesign.apply(graph, [Edit("prune", "layer1.0.conv1", {"channels": tuple(range(16))})])


def test_dead_channels_and_layers_go_exactly() -> None:
    torch.manual_seed(0)
    module = models.load("resnet20", classes=5).eval()
    with torch.no_grad():
        module.layer1[0].bn1.weight[[2, 3]] = 0
        module.layer1[0].bn1.bias[[2, 3]] = -1
        module.layer2[1].conv2.weight[:, [0, 7, 9]] = 0
        module.layer3[0].bn1.weight[4] = 0
        module.layer3[0].bn1.bias[4] = 1  # a constant that the next layer reads is not dead
    graph = read_plain(module)
    edited = redesign.apply(graph, redesign.proposals(graph, ["dead"]))
    shapes = {name: edited.weights[f"{name}.weight"].shape[0] for name in ("layer1.0.conv1", "layer2.1.conv1", "layer3.0.conv1")}
    assert shapes == {"layer1.0.conv1": 14, "layer2.1.conv1": 29, "layer3.0.conv1": 64}
    same_function(graph, edited)
    assert redesign.proposals(edited, ["dead"]) == []


def read_plain(module: nn.Module) -> Graph:
    from convsmith.interop import pytorch

    return pytorch.read(module.eval(), (1, 3, 32, 32))


def test_a_skipped_block_is_its_shortcut() -> None:
    torch.manual_seed(0)
    module = models.load("resnet20", classes=5).eval()
    graph = read_plain(module)
    edits = redesign.proposals(graph, ["skip"])
    assert len(edits) == 9
    wanted = next(edit for edit in edits if edit.node.startswith("layer2.1"))
    edited = redesign.apply(graph, [wanted])
    module.layer2[1] = nn.ReLU()
    same_function(read_plain(module), edited)


def test_a_padded_shortcut_is_a_convolution_of_ones_and_zeros() -> None:
    torch.manual_seed(0)
    graph = read(models.load("resnet20", classes=5), (1, 3, 32, 32))
    edited = redesign.apply(graph, redesign.proposals(graph, ["shortcut"]))
    assert not {"Pad", "MaxPool"} & {node.op for node in edited}
    same_function(graph, edited)
    assert redesign.proposals(edited, ["shortcut"]) == []
    with pytest.raises(UnsupportedError, match=r"node 'conv1' \(Conv\) does not pad channels, and only channels"):
        redesign.apply(graph, [Edit("shortcut", "conv1")])


def test_smaller_images_where_the_network_can() -> None:
    graph = read_plain(models.load("resnet20", classes=5))
    edits = redesign.proposals(graph, ["input"])
    assert [edit.settings["height"] for edit in edits] == [24, 28]
    smaller = redesign.apply(graph, edits[:1])
    assert run_onnx(smaller, np.zeros((1, 3, 24, 24))).shape == (1, 5)
    assert redesign.change(graph, edits[0]).macs < -0.4 * analyse(graph).macs
    with pytest.raises(UnsupportedError, match="images of 8x8"):
        redesign.apply(
            read(models.load("lenet5", classes=5, in_channels=1, input_size=(32, 32)), (1, 1, 32, 32)),
            [Edit("input", "", {"height": 8, "width": 8})],
        )


@pytest.mark.parametrize("name", ["resnet20", "timm/convnext_atto", "timm/mobilenetv3_small_050"])
def test_every_proposal_applies_and_survives_json(name: str) -> None:
    need(name)
    torch.manual_seed(0)
    size = 32 if name != "timm/convnext_atto" else 64
    graph = read(models.load(name, classes=5, input_size=(size, size)), (1, 3, size, size))
    edits = [edit for edit in redesign.proposals(graph, [kind for kind in KINDS if kind not in ("cp", "stack")])]
    assert len({edit.kind for edit in edits}) >= 4
    per_kind: dict[str, list[Edit]] = {}
    for edit in edits:
        assert Edit.from_dict(json.loads(json.dumps(edit.to_dict()))) == edit == pickle.loads(pickle.dumps(edit))
        per_kind.setdefault(edit.kind, []).append(edit)
    for some in per_kind.values():
        for edit in (some[0], some[-1]):
            change = redesign.change(graph, edit)
            assert change.macs < 0 or edit.kind in ("fold", "dead", "shortcut"), edit


def test_edits_are_values() -> None:
    edit = Edit("tucker", "conv", {"out_rank": 4, "in_rank": 3})
    assert str(edit) == "tucker conv (out_rank 4, in_rank 3)" and {edit: 1}[Edit("tucker", "conv", {"in_rank": 3, "out_rank": 4})] == 1
    for broken in ({}, {"kind": 3}, {"kind": "cp", "settings": {"rank": None}}, []):
        with pytest.raises(UsageError, match="is no edit"):
            Edit.from_dict(broken)  # type: ignore[arg-type]

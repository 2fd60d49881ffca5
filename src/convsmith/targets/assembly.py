"""One ONNX model that goes from pixels to named scores: preprocessing, the network, softmax, labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convsmith import __version__
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UnsupportedError, UsageError
from convsmith.targets import shipment
from convsmith.targets.preprocessing import PREFIX, sketch
from convsmith.targets.shipment import Confidence, Shipment

AFTER = "postprocess/"
LARGEST_BYTES = 2**31 - 2**20  # protobuf's limit of 2 GiB, less the room for the nodes


def assemble(network: onnx.ModelProto, shipped: Shipment) -> onnx.ModelProto:
    """Return the network with its preprocessing before it and softmax behind it, checked by ``onnx.checker``.

    ``network`` reads float32 NCHW and writes logits ``(n, classes)``; scores are their softmax at the shipment's temperature. The fields
    of the shipment go into the file's metadata, under ``convsmith.*``.

    Shapes: ``image`` uint8 ``(N, H, W, channels)``, all three free, to ``scores`` and ``logits`` float32 ``(N, classes)``.
    """
    preprocess, classes = shipped.preprocess, shipped.classes
    _check(network, preprocess, classes)
    drawn, normalised = sketch(preprocess)
    graph = network.graph
    names = {graph.input[0].name: normalised, graph.output[0].name: "logits"}
    nodes = [*drawn.nodes, *(_renamed(node, names) for node in graph.node)]
    held = [*drawn.constants.values(), *graph.initializer, *_scores(nodes, shipped.confidence)]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", preprocess.channels])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(classes)]) for name in ("scores", "logits")]
    whole = helper.make_graph(nodes, graph.name or "network", [image], outputs, held)
    model = helper.make_model(whole, opset_imports=list(network.opset_import), ir_version=network.ir_version, producer_name="convsmith")
    model.producer_version = __version__
    helper.set_model_props(model, {f"{shipment.PREFIX}{key}": value for key, value in shipped.fields().items()})
    onnx.checker.check_model(model)
    return model


def _scores(nodes: list[onnx.NodeProto], confidence: Confidence) -> list[onnx.TensorProto]:
    """Append what makes scores of logits, and return its constants."""
    source, constants = "logits", []
    if confidence.temperature != 1:
        source, factor = f"{AFTER}tempered", f"{AFTER}inverse_temperature"
        constants.append(numpy_helper.from_array(np.asarray(1 / confidence.temperature, np.float32), factor))
        nodes.append(helper.make_node("Mul", ["logits", factor], [source], name=source))
    nodes.append(helper.make_node("Softmax", [source], ["scores"], name="scores", axis=1))
    return constants


def network_of(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the network alone of a model that ``assemble`` made, from normalised pixels to logits; None for any other model."""
    fields = {field.key: field.value for field in model.metadata_props}
    if "convsmith.preprocess" not in fields:
        return None
    preprocess = Preprocess.from_dict(json.loads(fields["convsmith.preprocess"]))
    _, normalised = sketch(preprocess)
    nodes = [node for node in model.graph.node if not node.name.startswith((PREFIX, AFTER)) and list(node.output) != ["scores"]]
    shape: list[str | int | None] = ["N", preprocess.channels, preprocess.height, preprocess.width]
    pixels = helper.make_tensor_value_info(normalised, TensorProto.FLOAT, shape)
    logits = [value for value in model.graph.output if value.name == "logits"]
    weights = [tensor for tensor in model.graph.initializer if not tensor.name.startswith((PREFIX, AFTER))]
    alone = helper.make_graph(nodes, model.graph.name, [pixels], logits, weights)
    return helper.make_model(alone, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _check(network: onnx.ModelProto, preprocess: Preprocess, classes: Sequence[str]) -> None:
    graph = network.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UsageError(f"export needs a network of one input and one output; {graph.name!r} has {len(inputs)} and {len(graph.output)}")
    clash = [node.name for node in graph.node if node.name.startswith((PREFIX, AFTER))]
    if clash:
        raise UsageError(f"the names {PREFIX}* and {AFTER}* belong to what surrounds the network; it has a node {clash[0]!r}")
    for value, want, what in (
        (inputs[0], [preprocess.channels, preprocess.height, preprocess.width], "reads channels x height x width"),
        (graph.output[0], [len(classes)], "writes scores for"),
    ):
        have = [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
        if len(have) != len(want) or any(a and a != b for a, b in zip(have, want, strict=True)):
            raise UsageError(f"the network {what} {have}, but preprocessing and labels say {want}; give those it was trained with")
    if network.ByteSize() > LARGEST_BYTES:
        raise UnsupportedError(f"the network has {network.ByteSize() / 2**30:.1f} GiB; one ONNX file holds at most 2")


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for values in (copy.input, copy.output):
        for index, value in enumerate(values):
            values[index] = names.get(value, value)
    return copy

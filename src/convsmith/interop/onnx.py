"""ONNX files become a ``Graph``, and a ``Graph`` becomes an ONNX file that its checker accepts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper, version_converter

from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Attribute, Graph, Node, Value, fold_constants
from convsmith.graph.files import replace_file
from convsmith.interop.lowering import lower
from convsmith.kernels.reference import OPERATORS

__all__ = ["load", "read", "write"]

OPSET = 18
IR_VERSION = 10
PROTOBUF_LIMIT_BYTES = 2**31 - 1
DOMAINS = ("", "ai.onnx")
QONNX = "qonnx.custom_op.general"
QONNX_OPERATORS = ("Quant", "BipolarQuant")


def write(
    graph: Graph,
    path: str | os.PathLike[str] | None = None,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    axis_names: Mapping[str, Sequence[str]] | None = None,
) -> bytes:
    """Return the bytes of a checked ONNX model, and write them to ``path`` (atomically) when given.

    Axes of -1 become named dimensions: the first ``batch``, others ``<value>_<axis>``, or as ``axis_names[value]`` says.
    ``metadata`` becomes ``metadata_props``. Operators need not be ones that ``read`` knows: any ONNX operator passes.

    Raises: ``UnsupportedError`` when the checker refuses the model or it exceeds the 2 GB of one protobuf file.
    """
    model = to_model(lower(graph, opset), opset, metadata or {}, axis_names or {})
    if model.ByteSize() > PROTOBUF_LIMIT_BYTES:
        raise UnsupportedError(
            f"graph {graph.name!r} needs {model.ByteSize():,} bytes; an ONNX file holds at most {PROTOBUF_LIMIT_BYTES:,}"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(f"graph {graph.name!r} is not valid ONNX of operator set {opset}: {error}") from error
    data: bytes = model.SerializeToString()
    if path is not None:
        replace_file(Path(path), data)
    return data


def to_model(graph: Graph, opset: int, metadata: Mapping[str, str], axis_names: Mapping[str, Sequence[str]]) -> onnx.ModelProto:
    """Return the model, unchecked."""
    inputs, outputs = ([value_info(value, axis_names.get(value.name)) for value in values] for values in (graph.inputs, graph.outputs))
    nodes = [helper.make_node(n.op, n.inputs, n.outputs, name=n.name, domain=domain(n) or None, **written_attributes(n)) for n in graph]
    weights = [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in graph.weights.items()]
    body = helper.make_graph(nodes, graph.name or "graph", inputs, outputs, weights)
    versions = [helper.make_opsetid("", opset), *([helper.make_opsetid(QONNX, 1)] if any(map(domain, graph)) else [])]
    model = helper.make_model(body, opset_imports=versions, ir_version=IR_VERSION, producer_name="convsmith")
    helper.set_model_props(model, dict(metadata))
    return model


def domain(node: Node) -> str:
    """Return whose operator a node is: that of ONNX (empty) or of QONNX."""
    return QONNX if node.op in QONNX_OPERATORS else ""


def written_attributes(node: Node) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in node.attributes.items()}


def value_info(value: Value, names: Sequence[str] | None) -> onnx.ValueInfoProto:
    own = names or ["batch" if axis == 0 else f"{value.name}_{axis}" for axis in range(len(value.shape))]
    shape = [own[axis] if size < 0 else size for axis, size in enumerate(value.shape)]
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), shape)


def read(source: str | os.PathLike[str] | bytes) -> Graph:
    """Read an ONNX file or its bytes; older operator sets are converted to 18, shape arithmetic is computed once.

    Raises: ``DataError`` for a file that is missing, broken or no ONNX; ``UnsupportedError`` naming every unknown operator
    with its node.
    """
    model = load(source)
    label = "the ONNX bytes" if isinstance(source, bytes) else str(source)
    refuse_unknown(model, label)
    version = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=OPSET)
    if version < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise UnsupportedError(f"{label} has operator set {version}, which cannot be converted to {OPSET}: {error}") from error
    return fold_constants(from_model(model))


def load(source: str | os.PathLike[str] | bytes) -> onnx.ModelProto:
    """Parse and check a file or bytes."""
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise DataError(f"{source} is not a file; give the path of an .onnx file")
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(os.fspath(source))
        if not model.graph.node and not model.graph.output:
            raise DataError("it holds no network")
        onnx.checker.check_model(model)
        return model
    except (DecodeError, onnx.checker.ValidationError, DataError, OSError, ValueError) as error:
        label = "the given bytes are" if isinstance(source, bytes) else f"{source} is"
        reason = str(error).strip().splitlines()
        raise DataError(f"{label} not a whole ONNX model: {reason[0] if reason else type(error).__name__}") from error


def refuse_unknown(model: onnx.ModelProto, label: str) -> None:
    """Raise with the whole list of operators that ``Graph`` has no meaning for."""
    unknown = [
        f"{'' if node.domain in DOMAINS else node.domain + '.'}{node.op_type} (node {node.name or node.output[0]!r})"
        for node in model.graph.node
        if node.domain not in DOMAINS or (node.op_type not in OPERATORS and node.op_type not in ("Constant", "Upsample"))
    ]
    if unknown:
        shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        raise UnsupportedError(f"{label} has unknown operators: {shown}. Supported are {', '.join(sorted(OPERATORS))}")


def from_model(model: onnx.ModelProto) -> Graph:
    """Return the graph of a model whose operators are all known."""
    body = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
    nodes: list[Node] = []
    taken: set[str] = set()
    for proto in body.node:
        if proto.op_type == "Constant":
            weights[proto.output[0]] = constant_array(proto)
            continue
        name = unique(proto.name or next(filter(None, proto.output)), taken)
        outputs = tuple(proto.output)
        while outputs and not outputs[-1]:
            outputs = outputs[:-1]
        nodes.append(Node(name, proto.op_type, tuple(proto.input), outputs, read_attributes(proto, name)))
    inputs = tuple(read_value(value) for value in body.input if value.name not in weights)
    outputs_ = tuple(read_value(value) for value in body.output)
    return drop_training_outputs(Graph(body.name or "graph", inputs, outputs_, tuple(nodes), weights))


def drop_training_outputs(graph: Graph) -> Graph:
    """Keep the first output of dropout and normalisation; the others exist for training only."""
    single = {"Dropout", "BatchNormalization", "LayerNormalization"}
    nodes = tuple(dataclasses.replace(n, outputs=n.outputs[:1]) if n.op in single else n for n in graph)
    return dataclasses.replace(graph, nodes=nodes)


def unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def constant_array(proto: onnx.NodeProto) -> np.ndarray[Any, Any]:
    attribute = proto.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    raise UnsupportedError(f"constant {proto.output[0]!r} given as {attribute.name}")


def read_attributes(proto: onnx.NodeProto, name: str) -> dict[str, Attribute]:
    return {attribute.name: read_attribute(attribute, name) for attribute in proto.attribute}


def read_attribute(attribute: onnx.AttributeProto, name: str) -> Attribute:
    """Return one attribute as plain data; a float as the shortest decimal that is the same float32."""
    value = helper.get_attribute_value(attribute)
    match attribute.type:
        case onnx.AttributeProto.FLOAT:
            return shortest(value)
        case onnx.AttributeProto.INT:
            return int(value)
        case onnx.AttributeProto.STRING:
            return str(value.decode())
        case onnx.AttributeProto.FLOATS:
            return tuple(shortest(item) for item in value)
        case onnx.AttributeProto.INTS:
            return tuple(int(item) for item in value)
        case onnx.AttributeProto.TENSOR if value.dims in ([], [1]):
            number = numpy_helper.to_array(value).reshape(-1)[0]
            return int(number) if np.issubdtype(number.dtype, np.integer) else shortest(float(number))
    raise UnsupportedError(f"attribute {attribute.name!r} of node {name!r} is neither numbers nor text")


def shortest(value: float) -> float:
    return float(str(np.float32(value)))


def read_value(value: onnx.ValueInfoProto) -> Value:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type == TensorProto.UNDEFINED:
        raise UnsupportedError(f"value {value.name!r} is no tensor of a known type")
    shape = tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in kind.shape.dim)
    return Value(value.name, shape, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)))

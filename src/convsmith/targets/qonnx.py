"""QONNX files without the qonnx package: their two operators spelled out in those of ONNX, so that ONNX Runtime can run them.

References: qonnx, ``docs/qonnx-custom-ops``, Quant and BipolarQuant, version 1: ``y = (round(clip(x / scale + zero)) - zero) * scale``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from convsmith.errors import DataError, UnsupportedError
from convsmith.interop.onnx import QONNX

ROUNDINGS = {"ROUND": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}


def spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with standard operators only.

    Raises: ``UnsupportedError`` for another operator of the domain, a rounding that ONNX lacks, or a width that is not constant.
    """
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain != QONNX:
            nodes.append(node)
        elif node.op_type == "Quant":
            nodes += _quant(node, held, constants)
        elif node.op_type == "BipolarQuant":
            nodes += _bipolar(node, constants)
        else:
            raise UnsupportedError(f"no meaning for {node.domain}.{node.op_type} (node {node.name!r}); Quant and BipolarQuant are read")
    graph = helper.make_graph(
        nodes, model.graph.name, list(model.graph.input), list(model.graph.output), [*model.graph.initializer, *constants]
    )
    versions = [entry for entry in model.opset_import if entry.domain != QONNX]
    plain = helper.make_model(graph, opset_imports=versions, ir_version=model.ir_version)
    plain.metadata_props.extend(model.metadata_props)
    return plain


def _quant(node: onnx.NodeProto, held: Mapping[str, NDArray[Any]], constants: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    x, scale, zero, bits = node.input
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    mode = given.get("rounding_mode", b"ROUND").decode().upper()
    if mode not in ROUNDINGS or bits not in held:
        raise UnsupportedError(f"node {node.name!r}: rounding {mode} of a constant width is read for {', '.join(ROUNDINGS)} only")
    low, high = limits(int(held[bits]), bool(given.get("signed", 1)), bool(given.get("narrow", 0)))
    names = [f"{node.output[0]}.{what}" for what in ("divided", "shifted", "clipped", "rounded", "back", "low", "high")]
    divided, shifted, clipped, rounded, back, least, most = names
    constants += [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in ((least, low), (most, high))]
    return [
        helper.make_node("Div", [x, scale], [divided]),
        helper.make_node("Add", [divided, zero], [shifted]),
        helper.make_node("Clip", [shifted, least, most], [clipped]),
        helper.make_node(ROUNDINGS[mode], [clipped], [rounded]),
        helper.make_node("Sub", [rounded, zero], [back]),
        helper.make_node("Mul", [back, scale], [node.output[0]]),
    ]


def _bipolar(node: onnx.NodeProto, constants: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    x, scale = node.input
    names = [f"{node.output[0]}.{what}" for what in ("sign", "zero", "one", "minus")]
    sign, zero, one, minus = names
    constants += [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in ((zero, 0), (one, 1), (minus, -1))]
    return [
        helper.make_node("GreaterOrEqual", [x, zero], [f"{sign}.positive"]),
        helper.make_node("Where", [f"{sign}.positive", one, minus], [sign]),
        helper.make_node("Mul", [sign, scale], [node.output[0]]),
    ]


def limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the least and largest integer of a width; a narrow range leaves the most negative one out, or the largest unsigned."""
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def read(path: Path) -> onnx.ModelProto:
    """Return the model of a file, spelled out."""
    try:
        return spelled_out(onnx.load(str(path)))
    except (DecodeError, OSError, ValueError) as error:
        raise DataError(f"{path.name} is not a whole QONNX file: {error}") from None

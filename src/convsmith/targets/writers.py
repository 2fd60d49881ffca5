"""Files made of a shipment: ONNX in float32, with codes or with QONNX's operators, OpenVINO's IR, and what rooms above or torch write."""

from __future__ import annotations

from pathlib import Path

import onnx

from convsmith.graph.network import Graph
from convsmith.interop.onnx import write
from convsmith.redesign import fold_batch_norm
from convsmith.targets.assembly import assemble
from convsmith.targets.places import at
from convsmith.targets.sessions import openvino_core, openvino_module
from convsmith.targets.shipment import Shipment


def network_bytes(graph: Graph) -> bytes:
    """Return the bare network as an ONNX file, batch norm folded: float32 NCHW to logits, for any runtime."""
    return write(fold_batch_norm(graph))


def onnx_model(shipped: Shipment) -> onnx.ModelProto:
    """Return the whole file as an ONNX model; under a plan with QuantizeLinear and DequantizeLinear."""
    return assemble(onnx.load_from_string(write(shipped.planned)), shipped)


def write_onnx(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write an ONNX file of standard operators."""
    path.write_bytes(onnx_model(shipped).SerializeToString())
    return (path,)


def write_qonnx(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write an ONNX file with Quant and BipolarQuant where the plan rounds."""
    assert shipped.plan is not None
    network = write(shipped.plan.quant_nodes(shipped.graph, shipped.ranges))
    path.write_bytes(assemble(onnx.load_from_string(network), shipped).SerializeToString())
    return (path,)


def write_openvino(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write OpenVINO's IR, float32, with the metadata as its ``rt_info``; the conversion happens in memory and offline."""
    openvino = openvino_module()
    model = onnx_model(shipped)
    network = openvino_core().read_model(model.SerializeToString())
    for field in model.metadata_props:
        network.set_rt_info(field.value, field.key.split(".", 1))
    openvino.save_model(network, str(path), compress_to_fp16=False)
    return path, path.with_suffix(".bin")


def write_torchscript(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write a TorchScript file."""
    at("convsmith.interop.torch_files:write_torchscript")(shipped.folded, shipped.preprocess, shipped.fields(), path)
    return (path,)


def write_torch_export(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Write a file of ``torch.export``."""
    at("convsmith.interop.torch_files:write_exported")(shipped.folded, shipped.preprocess, shipped.fields(), path)
    return (path,)

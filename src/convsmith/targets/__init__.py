"""Where a network goes when it leaves: files that read pixels, checked on real images in their own runtime. No torch here."""

from convsmith.targets.agreement import TIE, Parity, parity, require
from convsmith.targets.assembly import assemble, network_of
from convsmith.targets.prediction import predict
from convsmith.targets.sessions import RUNTIMES, Session, load, onnxruntime_run, openvino_run
from convsmith.targets.shipment import Confidence, Quantiser, Shipment
from convsmith.targets.shipping import TARGETS, Exported, export, register
from convsmith.targets.target import Target
from convsmith.targets.timing import bench, measure, table
from convsmith.targets.writers import network_bytes, onnx_model

__all__ = [
    "RUNTIMES",
    "TARGETS",
    "TIE",
    "Confidence",
    "Exported",
    "Parity",
    "Quantiser",
    "Session",
    "Shipment",
    "Target",
    "assemble",
    "bench",
    "export",
    "load",
    "measure",
    "network_bytes",
    "network_of",
    "onnx_model",
    "onnxruntime_run",
    "openvino_run",
    "parity",
    "predict",
    "register",
    "require",
    "table",
]

"""Where a network goes when it leaves: files that read pixels, checked on real images in their own runtime. No torch here."""

from convsmith.targets.agreement import TIE, Parity, parity, require
from convsmith.targets.assembly import assemble, network_of
from convsmith.targets.prediction import predict
from convsmith.targets.sessions import Session, load, onnxruntime_run, openvino_run
from convsmith.targets.shipping import TARGETS, Exported, Target, export, network_bytes, register
from convsmith.targets.timing import bench, measure, table

__all__ = [
    "TARGETS",
    "TIE",
    "Exported",
    "Parity",
    "Session",
    "Target",
    "assemble",
    "bench",
    "export",
    "load",
    "measure",
    "network_bytes",
    "network_of",
    "onnxruntime_run",
    "openvino_run",
    "parity",
    "predict",
    "register",
    "require",
    "table",
]

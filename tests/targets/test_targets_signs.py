"""Networks of signs in QONNX: what an interpreter of its operators makes of the file, independent of how it is written or read here."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from convsmith import models, precision, targets
from convsmith.interop.onnx import QONNX, write
from convsmith.interop.pytorch import read
from convsmith.precision.binary_plan import binary_plan
from convsmith.targets import qonnx


class BipolarQuant(OpRun):
    """``docs/qonnx-custom-ops/bipolar_quant_op.md``: ``y = x; y[y >= 0] = 1; y[y < 0] = -1; y = y * scale``."""

    op_domain = QONNX

    def _run(self, x: Any, scale: Any) -> tuple[Any]:
        y = np.where(x >= 0, np.float32(1), np.float32(-1))
        return ((y * scale).astype(np.float32),)


def test_a_convolutional_network_of_signs_is_the_trained_one_in_qonnx() -> None:
    """Sums of signs are whole; the float32 layers at both ends are added up in another order: 1e-5 of the largest score."""
    torch.manual_seed(0)
    net = models.load("vgg_small", classes=5, in_channels=3, input_size=(8, 8), widths=(4, 6, 5))
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.weight.normal_()
                norm.bias.normal_()
        net.train()(torch.randn(32, 3, 8, 8))
    net.eval()
    x, plan = torch.randn(3, 3, 8, 8), binary_plan(net)
    with torch.no_grad():
        expected = precision.emulate(net, plan, x).eval()(x).numpy()
    model = onnx.load_from_string(write(plan.quant_nodes(read(net, (1, 3, 8, 8)))))
    nodes = [node.op_type for node in model.graph.node]
    assert nodes.count("BipolarQuant") == 11 and nodes.count("BatchNormalization") == 6, "norms keep their factors"
    own = ReferenceEvaluator(model, new_ops=[BipolarQuant]).run(None, {model.graph.input[0].name: x.numpy()})[0]
    assert np.abs(own - expected).max() < 1e-5 * np.abs(expected).max()
    ours = targets.onnxruntime_run(qonnx.spelled_out(model).SerializeToString())[0](x.numpy())[0]
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()

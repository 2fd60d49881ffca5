"""Turn a network into a graph, see what each layer costs, fold it, save it, and run it without torch."""

import numpy as np
import torch

from convsmith import analysis, compiler, graph, models, redesign
from convsmith.interop import onnx, pytorch

torch.manual_seed(0)
module = models.load("smallnet", classes=10, in_channels=1, input_size=(28, 28)).eval()
network = pytorch.read(module, (1, 1, 28, 28), name="smallnet")
report = analysis.analyse(network)
print(report.table())

print("\nlayers by share of the work:")
for layer in sorted(report.layers, key=lambda layer: -layer.macs)[:3]:
    print(f"  {layer.name:12} {layer.macs / report.macs:5.1%} of the multiply-accumulates, {layer.intensity:.0f} operations a byte")

folded = redesign.fold_batch_norm(network)
print(f"\nfolding batch normalisation: {len(network.nodes)} nodes become {len(folded.nodes)}")

graph.save(folded, "smallnet.graph")
onnx.write(folded, "smallnet.onnx")
assert onnx.read("smallnet.onnx") == graph.load("smallnet.graph") == folded

x_nchw = np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype(np.float32)
with torch.no_grad():
    expected = module(torch.from_numpy(x_nchw)).numpy()
difference = np.abs(compiler.interpret(folded)(x_nchw) - expected).max()
print(f"run without torch: largest difference {difference:.1e}, largest score {np.abs(expected).max():.2f}")

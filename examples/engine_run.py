"""Compile a network, look at its plan, save it, and run the file without torch's help."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from convsmith import compiler, models
from convsmith.interop import pytorch

torch.manual_seed(0)
network = pytorch.read(models.load("smallnet", classes=10, in_channels=1, input_size=(28, 28)), (1, 1, 28, 28))
program = compiler.build(network)
print(program.describe())

with tempfile.TemporaryDirectory() as folder:
    program.save(Path(folder) / "smallnet.program")
    again = compiler.load(Path(folder) / "smallnet.program")
x_nchw = np.random.default_rng(0).standard_normal((2, 1, 28, 28), np.float32)
assert np.array_equal(again(x_nchw), program(x_nchw))
assert np.allclose(program(x_nchw), compiler.interpret(network)(x_nchw), atol=1e-5)

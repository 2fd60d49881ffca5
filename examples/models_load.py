"""Build networks by name: sizes, channels and classes of your own, weights from a file."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from convsmith import models

for family, names in models.names().items():
    print(f"{family:14} {' '.join(names)}")

torch.manual_seed(0)
network = models.load("smallnet", classes=10, in_channels=1, input_size=(28, 28))
print(network(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in network.parameters()), "parameters")

entry = models.ZOO["resnet18"]
print(f"resnet18: {entry.parameters:,} parameters, {entry.macs:,} multiply-adds at {entry.input} ({entry.source})")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mine.safetensors"
    save_file(network.state_dict(), path)
    again = models.load("smallnet", classes=10, in_channels=1, input_size=(28, 28), weights=path)
    print("same weights:", all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True)))

"""The networks and plans of benchmarks/certificates.py: small enough to be computed under every plan in every order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from convsmith import data, formats, precision
from convsmith.graph import Graph
from convsmith.interop import pytorch
from convsmith.precision import Plan, Rule


def lenet() -> nn.Module:
    """The LeNet of Gupta et al. 2015: two 5x5 convolutions with maximum pooling, 128 hidden units; 0.4 million products an image."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """A residual network for 32x32 colours: batch norm, an addition, strides, a mean over the image; 1.7 million products an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.second(self.first(x)) + x)
        scores: torch.Tensor = self.head(self.last(self.down(x)).mean((2, 3)))
        return scores


def pixels(split: Any, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of a split, from -1 to 1, and their labels."""
    count = min(limit, len(split))
    x = np.stack([split.image(index) for index in range(count)]).transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray(x / 127.5 - 1), np.asarray(split.labels[:count])


def train(module: nn.Module, x: np.ndarray, labels: np.ndarray, epochs: int) -> nn.Module:
    """Train with AdamW and a one-cycle rate, seed 0."""
    torch.manual_seed(0)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.01)
    steps = epochs * (len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps + 1)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - 127, 128):
            part = order[start : start + 128]
            loss = F.cross_entropy(module(inputs[part]), targets[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return module.eval()


def network(name: str, source: Path, state: Path, limit: int) -> tuple[Graph, np.ndarray, np.ndarray, np.ndarray]:
    """Return the trained graph, the test images, their labels and 256 training images to calibrate on; trained once and kept."""
    dataset = data.open(source)
    x, labels = pixels(dataset.splits["test"], limit)
    train_x, train_labels = pixels(dataset.train, 60_000)
    torch.manual_seed(0)
    module = lenet() if name == "mnist" else Residual()
    kept = state / f"{name}.pt"
    if kept.exists():
        module.load_state_dict(torch.load(kept))
    else:
        train(module, train_x, train_labels, 2 if name == "mnist" else 20)
        torch.save(module.state_dict(), kept)
    return pytorch.read(module.eval(), (1, *x.shape[1:])), x, labels, train_x[:256]


def plans(graph: Graph) -> dict[str, Plan]:
    """Return twenty plans: operands with float32 sums, narrow sums, fixed point, integers, every kind of rounding."""
    layout = precision.layout(graph)

    def operands(name: str) -> tuple[Rule, ...]:
        fmt = formats.parse(name)
        return precision.uniform(fmt, fmt, layout).rules

    def sums(name: str, **how: Any) -> Rule:
        return Rule("*", "accumulator", formats.parse(name), moment="operation", **how)

    stores = Rule("*", "activation", formats.parse("bf16"), rounding="stochastic")
    found: dict[str, tuple[Rule, ...]] = {
        "float32": (),
        **{f"{name}, float32 sums": operands(name) for name in ("bf16", "fp16", "e4m3fn", "e5m2", "e6m9", "int8", "int6", "int4", "q4.12")},
        "bf16 stored stochastically": (stores,),
        "fp16, fp16 sums": (*operands("fp16"), sums("fp16")),
        "fp16, fused fp16 sums": (*operands("fp16"), sums("fp16", product=None)),
        "bf16, bf16 sums": (*operands("bf16"), sums("bf16")),
        "fp16, stochastic fp16 sums": (*operands("fp16"), sums("fp16", rounding="stochastic")),
        "fp16, tf32 sums upward": (*operands("fp16"), sums("tf32", rounding="up")),
        "fp16, e8m15 sums cut off": (*operands("fp16"), sums("e8m15", rounding="toward_zero")),
        "e4m3fn, fp16 sums": (*operands("e4m3fn"), sums("fp16")),
        "fixed<6,10>, fixed<10,14> sums": (*operands("fixed<6,10>"), sums("fixed<10,14>")),
        "fixed<6,10>, fixed<6,10> sums": (*operands("fixed<6,10>"), sums("fixed<6,10>")),
    }
    return {name: Plan(rules, name) for name, rules in found.items()}

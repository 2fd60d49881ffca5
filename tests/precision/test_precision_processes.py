"""A plan in two processes: the gradients' mean is what a parameter server would round, and everything stored is the same in both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from convsmith import precision
from convsmith.errors import UsageError
from convsmith.precision import Plan

SCRIPT = """
import time
import numpy as np, torch
import torch.distributed as dist
from pathlib import Path
from torch import nn
from convsmith import precision
from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.formats import Format
from convsmith.precision import Plan, Rule
from convsmith.training import Training, fit

dist.init_process_group("gloo")
rank, fixed = dist.get_rank(), Format.fixed(3, 9)
roles = ("weight", "bias", "activation", "error", "update", "momentum")
rules = tuple(Rule("*", role, fixed, rounding="stochastic") for role in roles)
plan = Plan((*rules, Rule("*", "weight_gradient", fixed, "batch", rounding="stochastic")), master=False)
x = torch.randn(3, 2, 4, 1, 6, 6, generator=torch.Generator().manual_seed(5))

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))

def build(process):
    emulated = precision.emulate(net(), plan, x[0, 0], seed=7, process=(process, 2))
    return emulated, precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.1, momentum=0.5), emulated)

def weights(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])

def everywhere(values):
    found = [torch.zeros_like(values) for _ in range(2)]
    dist.all_gather(found, values)
    return found

emulated, optimizer = build(rank)
wrapped = nn.parallel.DistributedDataParallel(emulated)
for step in range(3):
    optimizer.zero_grad()
    wrapped(x[step, rank]).square().mean().backward()
    optimizer.step()
one, two = everywhere(weights(emulated))
assert torch.equal(one, two), "the stored weights of both processes"

pair = [build(process) for process in range(2)]
for step in range(3):
    for process, (module, stepper) in enumerate(pair):
        stepper.zero_grad()
        module(x[step, process]).square().mean().backward()
    means = [(a.grad + b.grad) / 2 for a, b in zip(*(module.parameters() for module, _ in pair))]
    for module, stepper in pair:
        for p, mean in zip(module.parameters(), means):
            p.grad = mean.clone()
        stepper.step()
assert torch.equal(one, weights(pair[0][0])) and torch.equal(one, weights(pair[1][0])), "by hand, in one process"
assert not torch.equal(pair[0][0](x[0, 0]), pair[1][0](x[0, 0])), "numbers of images have random bits of their process"

moving = Plan((Rule("*", "activation", Format.fixed(2, 6), scale="dynamic", interval=2, max_overflow=0.0),))
emulated = precision.emulate(nn.Sequential(nn.Linear(1, 1)), moving, torch.zeros(2, 1), process=(rank, 2))
stepper = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.0), emulated)
for _ in range(2):
    emulated(torch.full((2, 1), 0.1 if rank == 0 else 5.0))
    stepper.step()
entry = emulated._input.dynamic.format
assert (entry.integer_bits, entry.fraction_bits) == (3, 5), "both ranges move by what one process saw"

class Noise:
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 2, n)
        self.x = (rng.integers(0, 99, (n, 8, 8, 1)) + 150 * self.labels[:, None, None, None]).astype(np.uint8)
    def __len__(self): return len(self.labels)
    def image(self, i): return self.x[i]
    def size(self, i): return (8, 8)
    def name(self, i): return str(i)

torch.manual_seed(0)
module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
moving = Rule("*", "activation", Format.fixed(5, 11), rounding="stochastic", scale="dynamic", interval=4)
stored = [Rule("*", role, Format.fixed(3, 13), rounding="stochastic") for role in roles if role != "activation"]
plan = Plan((*stored, moving), master=False)
config = Training(epochs=2, batch=16, accumulate=2, learning_rate=0.05, augment={}, deterministic=True, plan=plan.to_dict())
data = Dataset("noise", "made", ("a", "b"), 1, {"train": Noise(64, 0), "val": Noise(32, 1)})
done = fit(module, data, config, preprocess=Preprocess(8, 8, 1, "squash", mean=(0.5,), std=(0.5,)))
state = torch.cat([value.double().reshape(-1) for value in done.module.state_dict().values()])
one, two = everywhere(state)
assert torch.equal(one, two), "weights and statistics of a run"
assert all((p * 2**13 == (p * 2**13).round()).all() for p in done.module.parameters())
assert done.history[-1]["loss"] < 0.5 * done.history[0]["loss"], done.history
print("agreed", flush=True)
time.sleep(0.2)  # as training.processes.team does before it closes the group
dist.destroy_process_group()
"""


def test_two_processes_agree_and_are_what_one_computes_by_hand(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.count("agreed") == 2, done.stderr[-3000:]


def test_processes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match=r"process is \(number, how many\), the number from 0 up; got \(2, 2\)"):
        precision.emulate(nn.Linear(2, 2), Plan(), torch.zeros(2, 2), process=(2, 2))
    with pytest.raises(UsageError, match=r"2 processes need a group to agree on ranges: call torch.distributed.init_process_group first"):
        precision.emulate(nn.Linear(2, 2), Plan(), torch.zeros(2, 2), process=(0, 2))

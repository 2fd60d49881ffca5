"""SIGKILL in the middle of an epoch, then resume: the same weights, bit for bit, as without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import Augment, Training, fit

class Noise:
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.x, self.labels = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8), rng.integers(0, 3, n)
    def __len__(self): return len(self.labels)
    def image(self, i): return self.x[i]
    def size(self, i): return (8, 8)
    def name(self, i): return str(i)

folder, resident, wait_s = Path(sys.argv[1]), sys.argv[2] == "memory", float(sys.argv[3])
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 3))
config = Training(epochs=6, batch=16, optimizer="adamw", learning_rate=0.01, ema=0.9, checkpoint_s=0, resident=resident,
                  augment=Augment(flip=True, rotate=10), deterministic=True)
data = Dataset("noise", "made", ("a", "b", "c"), 1, {"train": Noise(100, 0), "val": Noise(30, 1)})

def slow(stage, done, total, **fields):
    if stage == "train":
        print(int(done), flush=True)
        time.sleep(wait_s)

preprocess = Preprocess(8, 8, 1, "squash", mean=(0.5,), std=(0.5,))
done = fit(net, data, config, preprocess=preprocess, checkpoints_in=folder, resume=True, progress=slow)
history = [{k: v for k, v in page.items() if k != "seconds"} for page in done.history]
torch.save({"weights": done.module.state_dict(), "history": history}, folder / "end.pt")
"""


def start(folder: Path, source: str, wait_s: float) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), source, str(wait_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> list[int]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return [int(line) for line in out.split()]


def kill_at(process: subprocess.Popen[str], step: int, delay_s: float) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            break
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The run that nothing disturbs, its images in memory."""
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    assert finish(start(folder, "memory", 0.0)) == list(range(1, 43))
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.mark.parametrize("source", ["memory", "stream"])
def test_killed_twice_and_resumed_is_the_same_run(tmp_path: Path, source: str, whole: dict) -> None:
    folder = tmp_path / "broken"
    # 7 updates an epoch: step 10 is in the middle of the second, 31 in the fifth; the delays fall on computing and on writing
    for step, delay_s in ((10, 0.0), (31, 0.013)):
        kill_at(start(folder, source, 0.01), step, delay_s)
    rest = finish(start(folder, source, 0.0))
    assert rest[-1] == 42 and 30 <= rest[0] <= 35
    end = torch.load(folder / "end.pt", weights_only=True)
    assert end["history"] == whole["history"]
    assert end["weights"].keys() == whole["weights"].keys()
    for name, value in whole["weights"].items():
        assert torch.equal(value, end["weights"][name]), name

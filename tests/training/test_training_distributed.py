"""Two processes under torchrun give the one-process result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import os, sys
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

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
config = Training(epochs=4, batch=15, accumulate=2, learning_rate=0.05, ema=0.9, clip=0.5, class_weights="balanced",
                  augment=Augment(flip=True, shift=0.2), deterministic=True)
data = Dataset("noise", "made", ("a", "b", "c"), 1, {"train": Noise(101, 0), "val": Noise(31, 1)})
preprocess = Preprocess(8, 8, 1, "squash", mean=(0.5,), std=(0.5,))
done = fit(net, data, config, preprocess=preprocess, checkpoints_in=Path(sys.argv[1]))
history = [{k: v for k, v in page.items() if k != "seconds"} for page in done.history]
if os.environ.get("RANK", "0") == "0":
    torch.save({"weights": done.module.state_dict(), "history": history}, Path(sys.argv[1]) / "end.pt")
"""


def test_two_processes_are_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # gloo else looks up the host's name, which need not resolve where tests run
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for name, words in (("one", []), ("two", launch)):
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, *words, str(script), str(tmp_path / name)], env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("one", "two"))
    # sums of gradients in another order: 1e-8 relative an update, grown over 28 updates of a smooth net
    for name, value in one["weights"].items():
        torch.testing.assert_close(value, two["weights"][name], rtol=1e-5, atol=1e-6)
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a["step"] == b["step"] and a["accuracy"] == b["accuracy"] and a["val_accuracy"] == b["val_accuracy"]
        assert abs(a["loss"] - b["loss"]) < 1e-5 and abs(a["val_loss"] - b["val_loss"]) < 1e-5

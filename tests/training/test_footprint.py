"""Memory of a training: tensors against sums done by hand and against the live bytes of a real pass, batches that fit by search."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from convsmith import models
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.training import Training
from convsmith.training.footprint import footprint, step_bytes, validation_bytes
from convsmith.training.largest_batch import largest_batch
from convsmith.training.ledger import Ledger
from convsmith.training.updates import Arithmetic

PREPROCESS = Preprocess(8, 8, 3)


def test_a_ledger_counts_storages_once_and_until_nothing_refers_to_them() -> None:
    with Ledger() as ledger:
        a = torch.zeros(1000)
        views = a.reshape(10, 100).t()
        b = a + 1
        assert ledger.live_bytes == 8000
        del a
        assert ledger.live_bytes == 8000  # the view holds it
        del views
        assert ledger.live_bytes == 4000
        b.add_(1)
        del b
    assert ledger.live_bytes == 0 and ledger.peak_bytes == 8000
    given = torch.zeros(1000)
    with Ledger((given,)) as ledger:
        seen = given.reshape(10, 100)
    assert ledger.peak_bytes == 0 and seen.shape == (10, 100)


def test_the_tensors_of_a_step_are_those_of_a_real_one() -> None:
    torch.manual_seed(0)
    module = models.load("resnet20", classes=10, in_channels=3, input_size=(8, 8))
    found = step_bytes(module, PREPROCESS, 10, Training(batch=4), Arithmetic("float32", True))
    module.train().to(memory_format=torch.channels_last)
    with Ledger((*module.parameters(), *module.buffers())) as ledger:
        x = (torch.zeros(4, 8, 8, 3, dtype=torch.uint8).float() * 1.0).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(module(x), torch.zeros(4, dtype=torch.int64), reduction="none").sum()
        torch.autograd.grad(loss, list(module.parameters()))
    # some operators give scratch tensors of a few bytes only where they are computed
    assert found == pytest.approx(ledger.peak_bytes, rel=0.02)


def test_a_linear_layer_by_hand() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    config = Training(batch=64, optimizer="adam", nesterov=False, ema=0.9, precision="float32", channels_last=True)
    found = footprint(module, PREPROCESS, 10, config, data_bytes=7, val_images=0, process_bytes=5)
    weights = 4 * (192 * 1000 + 1000 * 10)
    assert (found.copies_bytes, found.optimizer_bytes, found.gradient_bytes) == (3 * weights, 2 * weights, weights)
    # at the end all gradients are there, and before it, with that of the last layer alone, images, hidden values and their gradient:
    # what is alive beyond the gradients of the weights is less than those, and more than the hidden values
    assert 4 * 64 * 1000 < found.step_bytes < 3 * 4 * 64 * 1000 + 5 * 4 * 64 * 192
    assert found.total_bytes > found.process_bytes + found.tensor_bytes + found.data_bytes
    more = footprint(module, PREPROCESS, 10, config.model_copy(update={"accumulate": 4}), val_images=0, process_bytes=5)
    assert more.step_bytes < found.step_bytes
    # two neighbouring values at once at most: of 100 images their hidden ones before and after the activation
    hidden = 4 * 100 * 1000
    assert 2 * hidden <= validation_bytes(module, PREPROCESS, 100) < 2.5 * hidden


def test_nothing_is_computed_and_the_module_stays() -> None:
    module = models.load("vgg11_bn", classes=10, in_channels=3, input_size=(32, 32)).eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    found = footprint(module, Preprocess(32, 32, 3), 10, Training(batch=4096))
    assert found.step_bytes > 4096 * 4 * 64 * 32 * 32  # more than a gigabyte, which was never taken
    assert not module.training and all(p.grad is None for p in module.parameters())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    with pytest.raises(UsageError, match="the network cannot read such images"):
        footprint(module, Preprocess(32, 32, 1, mean=(0.5,), std=(0.5,)), 10)


@pytest.mark.parametrize("limit", [0, 99, 100, 101, 110, 1099, 1100, 5000, 10**9])
def test_the_largest_batch_is_that_of_trying_them_all(limit: int) -> None:
    asked = []

    def need(images: int) -> int:
        asked.append(images)
        return 90 + 10 * images + (37 if images > 40 else 0)

    expected = max((n for n in range(1, 301) if need(n) <= limit), default=0)
    asked.clear()
    assert largest_batch(need, limit, 300) == expected
    assert len(asked) <= 20


def test_a_training_takes_what_was_predicted() -> None:
    """In a process of its own; the benchmark has 5 % over many networks, one small network is allowed 15 %."""
    script = (
        "import numpy as np, torch\n"
        "from convsmith import data, models, training\n"
        "from convsmith.training.footprint import footprint\n"
        "from convsmith.training.results import peak_memory_bytes\n"
        "dataset = data.open('digits')\n"
        "preprocess, _ = data.choose_preprocess(dataset, 32)\n"
        "torch.manual_seed(0)\n"
        "module = models.load('resnet20', classes=10, in_channels=1, input_size=(32, 32))\n"
        "config = training.Training(batch=128, epochs=0.5)\n"
        "held = (len(dataset.train) + len(dataset.val)) * 32 * 32\n"
        "said = footprint(module, preprocess, 10, config, data_bytes=held, val_images=len(dataset.val))\n"
        "training.fit(module, dataset, config, preprocess=preprocess)\n"
        "print(said.total_bytes / peak_memory_bytes())\n"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert float(out) == pytest.approx(1, abs=0.15)

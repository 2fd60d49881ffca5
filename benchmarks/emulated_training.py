"""Claim: LeNet on MNIST trains under a 16-bit fixed-point plan in at most 1.5 times the time of plain float32, by operation in 12 times.

At layers: weights, biases, stored outputs, errors, weight gradients, momentum and updates all 16-bit fixed point with stochastic rounding,
no master copies. By operation: every multiply and add of the products, forward and in both backward ones, every addition of pools and of
the softmax, and the optimizer's arithmetic as well, also 16-bit fixed point with stochastic rounding (8 random bits in accumulators).
One update of one batch of 128 is timed: forward, loss, backward, step. The same batches, rounds interleaved, their order rotates.

Results: docs/results/emulated_training.md (machine, versions, medians, quartiles, n). Needs CONVSMITH_DATA for MNIST.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import RESULTS, footer, quartiles
from torch import Tensor, nn
from torch.nn import functional as F

from convsmith import data, models, precision
from convsmith.data.preprocess import normalise
from convsmith.formats import Format
from convsmith.kernels.machine import instruction_set
from convsmith.precision import Plan, Rule

BATCH = 128
LIMITS = """## Where the time goes

Most of the 73 roundings of an update are small. What kept training at layers at 1.75 times float32 was not rounding but waiting: the core's
second thread looked for work for 0.2 ms after every rounding and held the processor that torch's second thread wanted. With 40
microseconds it is what the table says, with none at all 1.45, on one thread 1.57. Maps of convolutions come in channels_last order while
random bits belong to the index in C order; the core lays 2048 numbers at a time in order in the first-level cache, where before 14
roundings an update were copied to that order and back."""
NARROW, WIDE = Format.fixed(2, 14), Format.fixed(6, 10)
STORED = ("weight", "bias", "error", "weight_gradient", "momentum", "update")
GOALS = {"at layers": 1.5, "at layers, counted every 50 updates": 1.5, "every operation": 12.0}


def at_layers() -> Plan:
    """Return the plan of Gupta et al. 2015: 16 bits in every stored value."""
    rules = [Rule("*", role, NARROW, rounding="stochastic") for role in STORED]
    return Plan((*rules, Rule("*", "activation", WIDE, rounding="stochastic")), "16 bits at layers", master=False)


def by_operation() -> Plan:
    """Return the plan in which every operation is rounded as well."""
    rules = [Rule("*", role, NARROW, rounding="stochastic") for role in ("weight", "bias", "weight_gradient")]
    rules += [Rule("*", role, NARROW, "operation", rounding="stochastic") for role in ("error", "momentum", "update")]
    rules.append(Rule("*", "activation", WIDE, "operation", rounding="stochastic"))
    rules.append(Rule("*", "accumulator", WIDE, "operation", rounding="stochastic", random_bits=8))
    return Plan(tuple(rules), "16 bits in every operation", master=False)


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return models.load("lenet5", classes=10, in_channels=1, input_size=(28, 28))


def plain() -> Callable[[Tensor, Tensor], object]:
    """Return one update of torch's own training."""
    network = lenet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)

    def update(x: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return update


def planned(plan: Plan, count_every: int = 0) -> Callable[[Tensor, Tensor], object]:
    """Return one update under a plan."""

    def first_class(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))

    emulated = precision.emulate(lenet(), plan, torch.zeros(2, 1, 28, 28), loss=first_class, count_every=count_every)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.02, momentum=0.9), emulated)

    def update(x: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        logits = emulated(x)
        with emulated.loss():
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()

    return update


def batches(count: int, path: Path) -> list[tuple[Tensor, Tensor]]:
    """Return the first batches of MNIST's training images."""
    dataset = data.open(path)
    preprocess, _ = data.choose_preprocess(dataset)
    rows = np.arange(BATCH * count)
    images = np.concatenate([x for x, _, _ in data.batches(dataset.train, preprocess, BATCH, order=rows)])
    x, labels = torch.from_numpy(normalise(images, preprocess)), torch.from_numpy(dataset.train.labels[rows])
    return list(zip(x.split(BATCH), labels.split(BATCH), strict=True))


def measure(rounds: int, path: Path) -> dict[str, list[float]]:
    """Return the seconds of one update of each contestant in each round."""
    contestants = {
        "plain float32": plain(),
        "at layers": planned(at_layers()),
        "at layers, counted every 50 updates": planned(at_layers(), 50),
        "every operation": planned(by_operation()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names, images = list(contestants), batches(rounds + 2, path)
    for turn, (x, labels) in enumerate(images):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            contestants[name](x, labels)
            if turn > 1:  # the first two warm up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows: time of one update, its ratio to plain float32, goal."""
    base = quartiles(seconds["plain float32"])[1]
    rows = ["| | ms an update, median (quartiles) | times float32 | goal |", "|---|---|---|---|"]
    for name, values in seconds.items():
        low, middle, high = (1e3 * value for value in quartiles(values))
        ratio = middle / 1e3 / base
        goal = f"{GOALS[name]:g} {'met' if ratio <= GOALS[name] else 'missed'}" if name in GOALS else ""
        rows.append(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {ratio:.2f} | {goal} |")
    return rows


def main() -> None:
    """Measure, print and write docs/results/emulated_training.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    default = Path(os.environ.get("CONVSMITH_DATA", ".")) / "data" / "mnist"
    parser.add_argument("--data", type=Path, default=default, help="folder of the MNIST files")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    torch.set_num_threads(arguments.threads)
    rows = table(measure(arguments.rounds, arguments.data))
    page = [
        "# LeNet on MNIST under 16-bit fixed point",
        "",
        f"{arguments.rounds} rounds of one update of {BATCH} images, interleaved; {arguments.threads} threads, {instruction_set()}.",
        "",
        *rows,
        "",
        LIMITS,
        footer(),
    ]
    print("\n".join(page))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "emulated_training.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()

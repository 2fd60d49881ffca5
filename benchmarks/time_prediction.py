"""Claim: the time of an epoch is predicted within 10 % after at most 3 minutes of calibration.

Each network is quoted as `convsmith train --dry-run` does it (a few updates of a copy, in each arithmetic), and then trained for two
epochs on random images in memory with a validation after each; compared is the second epoch with its validation. Other work on the machine
slows both, not always alike, so this is to be run alone. One network before the first is not counted.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer

from convsmith import models, training
from convsmith.data import Preprocess
from convsmith.data.dataset import Dataset
from convsmith.data.images import ResidentSplit
from convsmith.jobs.train import CALIBRATION_S

NETS = (
    ("smallnet", 32, 64, 6400), ("photonet", 64, 32, 1280), ("resnet20", 32, 128, 2560), ("resnet18", 64, 32, 1280),
    ("vgg11_bn", 32, 64, 1920), ("mobilenet_v2", 64, 32, 960), ("squeezenet1_1", 96, 32, 960), ("googlenet", 64, 32, 640),
    ("resnet50", 64, 16, 320), ("alexnet", 128, 32, 640),
)  # fmt: skip
VAL_IMAGES = 64


def one(name: str, size: int, batch: int, images: int) -> dict[str, Any]:
    """Quote, train two epochs, and return what was said and what the second took."""
    torch.manual_seed(0)
    module = models.load(name, classes=10, in_channels=3, input_size=(size, size))
    pixels = np.random.default_rng(0).integers(0, 256, (images + VAL_IMAGES, size, size, 3), np.uint8)
    labels, digests = np.arange(len(pixels)) % 10, np.arange(len(pixels), dtype=np.uint64)

    def part(rows: np.ndarray) -> ResidentSplit:
        return ResidentSplit(pixels, rows, labels[rows], digests[rows], (("random", 0),))

    splits = {"train": part(np.arange(images)), "val": part(np.arange(images, len(pixels)))}
    dataset = Dataset("random", "random", tuple("0123456789"), 3, splits)
    preprocess = Preprocess(size, size)
    config = training.Training(batch=batch, epochs=2, learning_rate=1e-4, schedule=training.Schedule(kind="constant"), validate_every=1)
    began = time.perf_counter()
    quoted = training.quote(module, dataset, config, preprocess, CALIBRATION_S)
    calibration_s = time.perf_counter() - began
    # a validation costs a third of an update for each image, as the plan of a training has it
    predicted = quoted.step_s * (quoted.steps / 2 + VAL_IMAGES / batch / 3)
    history = training.fit(module, dataset, config, preprocess=preprocess).history
    return {
        "net": name,
        "size": size,
        "batch": batch,
        "images": images,
        "calibration_s": calibration_s,
        "predicted_s": predicted,
        "measured_s": history[1]["seconds"] - history[0]["seconds"],
    }


def write(rows: list[dict[str, Any]]) -> None:
    errors = [row["predicted_s"] / row["measured_s"] - 1 for row in rows]
    sizes = [abs(error) for error in errors]
    lines = [
        "# Time of an epoch, predicted",
        "",
        f"{len(rows)} networks: median error **{100 * statistics.median(sizes):.1f} %** (goal 10 %), largest {100 * max(sizes):.1f} %, "
        f"{sum(size <= 0.1 for size in sizes)} of {len(rows)} within 10 %. "
        f"Calibration took at most {max(row['calibration_s'] for row in rows):.1f} s.",
        "",
        "| network | side | batch | images | calibration s | predicted s | measured s | error |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['net']} | {row['size']} | {row['batch']} | {row['images']} | {row['calibration_s']:.1f} | {row['predicted_s']:.2f} "
            f"| {row['measured_s']:.2f} | {100 * error:+.1f} % |"
            for row, error in zip(rows, errors, strict=True)
        ),
    ]
    (RESULTS / "time_prediction.md").write_text("\n".join(lines) + "\n" + footer())


def main() -> None:
    rows: list[dict[str, Any]] = []
    one(*NETS[0])  # the first network of a process is slower than its quote or quicker: it is not counted
    for net in NETS:
        rows.append(one(*net))
        print(rows[-1], file=sys.stderr, flush=True)
        write(rows)


if __name__ == "__main__":
    main()

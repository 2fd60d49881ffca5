"""Claim: `convsmith doctor` names the bottleneck that was planted in at least 18 of 20 trainings.

Every case is drawn from a seed: a slow disk (each read waits some milliseconds more), huge JPEGs, heavy augmentation, a large network,
a network of many small operators on few small images (Python), a network of wide matrices on few images (passes over the weights), or less
memory than the training needs. What is not planted is light but not nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer
from PIL import Image
from torch import nn

from convsmith import models
from convsmith.data import Preprocess, jpeg
from convsmith.data.dataset import Dataset
from convsmith.data.images import EncodedSplit
from convsmith.training import Augment, Training
from convsmith.training.diagnosis import diagnose

KINDS = ("disk", "decode", "augmentation", "compute", "Python", "memory", "too large")
SEEDS = 20
IMAGES = 48
CLASSES = 4
HEAVY: tuple[dict[str, Any], ...] = (
    {"elastic": 0.1, "blur": 3.0},
    {"policy": "rand", "rotate": 20.0},
    {"blur": 4.0, "noise": 0.1},
    {"rotate": 30.0, "hue": 30.0, "elastic": 0.05},
)


def photos(folder: Path, side: int, rng: np.random.Generator, images: int = IMAGES) -> Dataset:
    """Write smooth random JPEGs and return them as a dataset of paths."""
    names, labels = [], np.arange(images) % CLASSES
    for index in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        names.append(str(folder / f"{index}.jpg"))
        coarse.save(names[-1], quality=90)
    extents = np.full((images, 2), side, np.int32)
    split = EncodedSplit(names, [Path(name) for name in names], labels, np.arange(images, dtype=np.uint64), extents)
    return Dataset("photos", str(folder), tuple("abcd"), 3, {"train": split})


def small_network(width: int = 8) -> nn.Module:
    parts = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, CLASSES)]
    return nn.Sequential(*parts)


def chain(layers: int, width: int) -> nn.Module:
    """Return many small operators in a row."""
    parts: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1)]
    for _ in range(layers):
        parts += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def wide(units: int) -> nn.Module:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(8),
        nn.Flatten(),
        nn.Linear(192, units),
        nn.ReLU(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Linear(units, CLASSES),
    )


@contextmanager
def delayed(seconds: float) -> Iterator[None]:
    """Make each reading of a file wait, as a slow disk does."""
    plain: Callable[..., Any] = jpeg.encoded_bytes

    def slow(source: Any) -> Any:
        if not isinstance(source, bytes):
            time.sleep(seconds)
        return plain(source)

    jpeg.encoded_bytes = slow
    try:
        yield
    finally:
        jpeg.encoded_bytes = plain


def case(kind: str, seed: int) -> dict[str, Any]:
    """Plant one bottleneck, diagnose, and return what was said."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    side, delay, limit = int(rng.integers(48, 80)), 0.0, None
    config = Training(batch=32, resident=False, augment=Augment(flip=True))
    module, pixels = small_network(), 96
    if kind == "disk":
        delay = float(rng.uniform(0.008, 0.03))
    elif kind == "decode":
        pixels = int(rng.integers(1400, 2200))
    elif kind == "augmentation":
        config = config.model_copy(update={"augment": Augment(**HEAVY[int(rng.integers(len(HEAVY)))])})
        side = int(rng.integers(112, 160))
        pixels = side
    elif kind == "compute":
        name = ("resnet18", "vgg11_bn", "resnet50", "mobilenet_v2")[int(rng.integers(4))]
        module = models.load(name, classes=CLASSES, in_channels=3, input_size=(side, side))
    elif kind == "Python":
        module, side = chain(int(rng.integers(40, 90)), int(rng.integers(4, 9))), 16
        config = config.model_copy(update={"batch": int(rng.integers(2, 6))})
    elif kind == "memory":
        module = wide(int(rng.integers(3000, 4500)))
        config = config.model_copy(update={"batch": int(rng.integers(2, 6))})
    else:
        limit = 200_000_000
    with tempfile.TemporaryDirectory() as folder, delayed(delay):
        dataset = photos(Path(folder), pixels, rng)
        found = diagnose(module, dataset, Preprocess(side, side), config, images=IMAGES, limit_bytes=limit)
    planted = "memory" if kind == "too large" else kind
    shares = {stage: seconds / found.total_s for stage, seconds in found.seconds.items()}
    said = {"named": found.bottleneck, "right": found.bottleneck == planted, "fix": found.fix.text}
    return {"seed": seed, "kind": kind, **said, "shares": shares}


def write(rows: list[dict[str, Any]]) -> None:
    right = sum(row["right"] for row in rows)
    lines = [
        "# The planted bottleneck, named",
        "",
        f"**{right} of {len(rows)}** planted bottlenecks were named (goal 18 of 20). Shares are of the time of an image in an epoch.",
        "",
        "| seed | planted | named | shares of 5 % or more | fix |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        large = sorted((item for item in row["shares"].items() if item[1] >= 0.05), key=lambda item: -item[1])
        told = ", ".join(f"{stage} {share:.0%}" for stage, share in large)
        lines.append(f"| {row['seed']} | {row['kind']} | {row['named']}{'' if row['right'] else ' (wrong)'} | {told} | {row['fix']} |")
    (RESULTS / "doctor.md").write_text("\n".join(lines) + "\n" + footer())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        rows.append(case(KINDS[seed % len(KINDS)], seed))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    write(rows)


if __name__ == "__main__":
    main()

"""Claim: the memory that a training will take is predicted within 5 % (median) before anything of it runs.

Each network and batch size is a process of its own: it builds the network, predicts (no tensor is computed), trains two epochs of two
updates with validation, and compares with the largest memory that the process has held. The constants of the prediction were fitted on
`CALIBRATION` alone (`--calibrate` prints them); no network of `TESTED` is among them. Peer: the sum that model summaries print (weights,
gradients, moments, and the outputs of all layers once more for the backward pass), on top of the same process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, footer

CALIBRATION = (
    ("smallnet", 32, (32, 256)), ("resnet18", 64, (16, 64)), ("resnet20", 32, (128,)), ("vgg11_bn", 64, (32,)),
    ("squeezenet1_1", 96, (32,)), ("mobilenet_v2", 64, (32,)), ("timm/regnetx_002", 96, (16,)), ("nin", 32, (64,)),
)  # fmt: skip
TESTED = (
    ("quicknet", 28, (128, 512)), ("photonet", 64, (32, 64)), ("lenet5", 28, (128, 512)), ("alexnet", 128, (32, 64)),
    ("vgg11", 64, (16, 32)), ("vgg13_bn", 32, (64, 128)), ("vgg16_bn", 32, (64, 128)), ("googlenet", 64, (16, 32)),
    ("squeezenet1_0", 96, (16, 32)), ("mobilenet_v1", 96, (16, 32)), ("resnet34", 64, (16, 32)), ("resnet50", 64, (16, 32)),
    ("resnet32", 32, (64, 128)), ("resnet56", 32, (64, 128)), ("mlperf_resnet8", 32, (128, 256)), ("gupta_cifar", 32, (128, 256)),
    ("timm/efficientnet_b0", 64, (16, 32)), ("timm/mobilenetv3_small_100", 96, (16, 32)), ("timm/densenet121", 64, (8, 16)),
    ("timm/convnext_atto", 64, (16, 32)),
)  # fmt: skip
VAL_IMAGES = 16
PARTS = ("process_bytes", "tensor_bytes", "step_bytes", "gradient_bytes", "data_bytes", "total_bytes")


def one(name: str, size: int, batch: int) -> dict[str, Any]:
    """Predict, train, and return both; to be called in a fresh process."""
    import torch

    from convsmith import analysis, models, training
    from convsmith.data import Preprocess
    from convsmith.data.dataset import Dataset
    from convsmith.data.images import ResidentSplit
    from convsmith.interop import pytorch
    from convsmith.training.footprint import footprint
    from convsmith.training.results import peak_memory_bytes

    channels = 1 if name in ("quicknet", "lenet5") else 3
    torch.manual_seed(0)
    module = models.load(name, classes=10, in_channels=channels, input_size=(size, size))
    images = np.random.default_rng(0).integers(0, 256, (2 * batch + VAL_IMAGES, size, size, channels), np.uint8)
    labels, digests = np.arange(len(images)) % 10, np.arange(len(images), dtype=np.uint64)

    def part(rows: np.ndarray) -> ResidentSplit:
        return ResidentSplit(images, rows, labels[rows], digests[rows], (("random", 0),))

    splits = {"train": part(np.arange(2 * batch)), "val": part(np.arange(2 * batch, len(images)))}
    dataset = Dataset("random", "random", tuple("0123456789"), channels, splits)
    half = (0.5,) * channels
    preprocess = Preprocess(size, size, channels, mean=half, std=half)
    config = training.Training(batch=batch, epochs=2, learning_rate=1e-4)
    summed = analysis.analyse(pytorch.read(module, (1, channels, size, size)), batch)
    found = footprint(module, preprocess, 10, config, data_bytes=images.nbytes, val_images=VAL_IMAGES)
    training.fit(module, dataset, config, preprocess=preprocess)
    return {
        **{key: getattr(found, key) for key in PARTS},
        "net": name,
        "size": size,
        "batch": batch,
        "summary_bytes": found.process_bytes + 2 * found.gradient_bytes + 2 * summed.activation_bytes,
        "peak_bytes": peak_memory_bytes(),
    }


def measured(nets: tuple[tuple[str, int, tuple[int, ...]], ...], kept: Path | None = None, most: int | None = None) -> list[dict[str, Any]]:
    """Return a row for each network and batch size; ``kept``: a file of those measured before, to which at most ``most`` are added."""
    rows = json.loads(kept.read_text()) if kept is not None and kept.exists() else []
    known = {(row["net"], row["batch"]) for row in rows}
    missing = [(name, size, batch) for turn in range(2) for name, size, batches in nets for batch in batches[turn : turn + 1]]
    for name, size, batch in [item for item in missing if (item[0], item[2]) not in known][:most]:
        command = [sys.executable, __file__, "--one", name, str(size), str(batch)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
        print(row_text(rows[-1]), file=sys.stderr, flush=True)
        if kept is not None:
            kept.write_text(json.dumps(rows))
    return rows


def error(row: dict[str, Any], key: str = "total_bytes") -> float:
    return row[key] / row["peak_bytes"] - 1


def row_text(row: dict[str, Any]) -> str:
    sizes = " | ".join(f"{row[key] / 1e6:.0f}" for key in ("process_bytes", "tensor_bytes", "total_bytes", "peak_bytes"))
    errors = f"{100 * error(row):+.1f} % | {100 * error(row, 'summary_bytes'):+.0f} %"
    return f"| {row['net']} | {row['size']} | {row['batch']} | {sizes} | {errors} |"


def calibrate(rows: list[dict[str, Any]]) -> None:
    """Print the constants of `footprint` that make the squares of the relative errors least."""
    peak = np.array([row["peak_bytes"] for row in rows], float)
    known = np.array([row["process_bytes"] + row["tensor_bytes"] for row in rows], float)
    terms = np.stack([np.ones(len(rows)), [row["step_bytes"] for row in rows], [row["gradient_bytes"] for row in rows]], axis=1)
    fitted = np.linalg.lstsq(terms / peak[:, None], (peak - known) / peak, rcond=None)[0]
    print(f"runtime {fitted[0] / 1e6:.1f} MB, kept of step {fitted[1]:.3f}, kept of weights {fitted[2]:.3f}")


def write(rows: list[dict[str, Any]], kept: Path | None) -> None:
    errors, sums = ([abs(error(row, key)) for row in rows] for key in ("total_bytes", "summary_bytes"))
    nets = len({row["net"] for row in rows})
    lines = [
        "# Memory of a training, predicted before it runs",
        "",
        f"{nets} networks, {len(rows)} trainings, each in a process of its own; sizes in MB. "
        f"Median error **{100 * statistics.median(errors):.1f} %** (goal 5 %), nine in ten within {100 * np.percentile(errors, 90):.1f} %, "
        f"largest {100 * max(errors):.1f} %. The sum of a model summary: median {100 * statistics.median(sums):.1f} %.",
        "",
        "| network | side | batch | process before | tensors | predicted | measured | error | summary |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(row_text, rows),
    ]
    (RESULTS / "memory_prediction.md").write_text("\n".join(lines) + "\n" + footer().replace(str(kept), "rows.json"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--kept", type=Path, help="file of rows measured before, to go on with")
    parser.add_argument("--most", type=int, help="rows to add to them now")
    arguments = parser.parse_args()
    if arguments.one:
        name, size, batch = arguments.one
        print(json.dumps(one(name, int(size), int(batch))))
    elif arguments.calibrate:
        calibrate(measured(CALIBRATION))
    else:
        write(measured(TESTED, arguments.kept, arguments.most), arguments.kept)


if __name__ == "__main__":
    main()

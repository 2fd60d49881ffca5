"""A run folder as `convsmith forge` leaves it, made of digits-like numbers, without any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convsmith import runs
from convsmith.analysis import Evaluation, evaluate, fit_temperature
from convsmith.report import save_mistakes

DIGITS = tuple(str(digit) for digit in range(10))
COMMAND = ("/opt/somewhere/bin/convsmith", "forge", "my digits", "--max-drop", "0.5", "--time", "10m")


def predictions(classes: int, n: int = 360, seed: int = 0, accuracy: float = 0.97) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that are right about as often as ``accuracy`` and somewhat too sure."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    wrong = rng.random(n) > accuracy
    favourite = np.where(wrong, (labels + 1 + rng.integers(0, min(3, classes - 1), n)) % classes, labels)
    logits[np.arange(n), favourite] += 5 + rng.gamma(2, 2, n)
    return logits, labels


def image(index: int, side: int = 24) -> np.ndarray:
    """A grey blob that differs by index: uint8 ``(side, side, 1)``."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = index * 0.7
    ring = np.exp(-(((x * math.cos(angle) + y * math.sin(angle)) ** 2) * 60 + (np.hypot(x, y) - 0.28) ** 2 * 90))
    return (255 * ring)[:, :, None].astype(np.uint8)


def dataset(classes: Sequence[str]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    each = rng.integers(104, 112, len(classes))
    return {
        "name": "my digits",
        "source": "my digits",
        "classes": list(classes),
        "channels": 1,
        "counts": {"train": each.tolist(), "val": (each // 3).tolist(), "test": (each // 3 + 1).tolist()},
        "problems": [
            {"name": "3/scan 017.png", "kind": "truncated", "reason": "the file ends in the middle of the image", "left_out": True},
            {"name": "7/scan 201.png", "kind": "truncated", "reason": "the file ends in the middle of the image", "left_out": True},
            {"name": "notes.txt", "kind": "extension", "reason": "not an image", "left_out": True},
            {"name": "5/a.png", "kind": "duplicate", "reason": "same pixels as 5/b.png; both stay on one side", "left_out": False},
        ],
        "notes": ["There was no test folder: 20 % of each class was held out, seed 0."],
    }


def epochs(count: int = 24) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    rows = []
    for epoch in range(1, count + 1):
        fall = math.exp(-epoch / 4)
        rows.append(
            {
                "epoch": float(epoch),
                "step": 9 * epoch,
                "loss": 0.05 + 2.1 * fall + 0.02 * rng.random(),
                "accuracy": 0.995 - 0.85 * fall,
                "lr": 0.2 * math.sin(math.pi * min(1, (epoch + 1) / (count + 1))) ** 2,
                "val_loss": 0.09 + 1.9 * fall + 0.03 * rng.random(),
                "val_accuracy": 0.978 - 0.8 * fall + 0.006 * rng.random(),
                "seconds": 1.1 * epoch,
            }
        )
    return rows


def analysis() -> dict[str, Any]:
    layers = [
        ("features.0", "Conv", [1, 16, 24, 24], 160, 82_944, 36_864, 3),
        ("features.1", "Relu", [1, 16, 24, 24], 0, 0, 36_864, 3),
        ("features.3", "Conv", [1, 32, 12, 12], 4_640, 663_552, 18_432, 8),
        ("features.6", "Conv", [1, 64, 6, 6], 18_496, 663_552, 9_216, 18),
        ("pool", "GlobalAveragePool", [1, 64, 1, 1], 0, 0, 256, 24),
        ("classifier", "Gemm", [1, 10], 650, 640, 40, 24),
    ]
    keys = ("name", "op", "output_shape", "parameters", "macs", "activation_bytes")
    nodes = [
        dict(zip(keys, row[:6], strict=True)) | {"field": {"size": [row[6]] * 2, "stride": [1, 1], "offset": [0, 0], "axes": [2, 3]}}
        for row in layers
    ]
    return {"graph": "smallnet", "batch": 1, "totals": {"peak_activation_bytes": 73_728}, "layers": nodes}


def precision(n: int = 360) -> dict[str, Any]:
    """Points as `precision.find_uniform` returns them: five families for both tensors, one for weights alone."""
    baseline = round(0.978 * n) / n

    def point(family: str, name: str, bits: int, knee: float, tensors: str = "both") -> dict[str, Any]:
        accuracy = round((0.1 + (baseline - 0.1) / (1 + math.exp(-(bits - knee) * 2.2))) * n) / n
        drop = 100 * (baseline - accuracy)
        measured = {"accuracy": accuracy, "drop": drop, "drop_low": drop - 0.7, "drop_high": drop + 0.7, "n": n}
        plan = {"name": name, "rules": [{"layer": "*", "tensor": tensors, "format": name}]}
        return {"family": family, "format": name, "tensors": tensors, "bits": bits} | measured | {"lost": 1, "gained": 1, "plan": plan}

    points = [point("float e8", f"e8m{b - 9}", b, 10) for b in (9, 10, 11, 12, 14, 17)]
    points += [point("float e5", f"e5m{b - 6}", b, 6.8) for b in (6, 7, 8, 9, 10, 12)]
    points += [point("exponent", f"e{b - 8}m7", b, 10.6) for b in (10, 11, 12, 13)]
    points += [point("fixed", f"fixed<2,{b - 2}> weights, fixed<4,{b - 4}> activations", b, 6.3) for b in (5, 6, 7, 8, 10, 12, 16)]
    points += [point("int", f"int{b}", b, 2.9) for b in (2, 3, 4, 5, 6, 7, 8)]
    points += [point("int", f"int{b} weights", b, 2.2, "weight") for b in (2, 3, 4, 5, 6, 7, 8)]
    chosen = next(found for found in points if found["format"] == "int6")
    confirmed = {"baseline": 0.975, "accuracy": 0.975 - 1 / n, "drop": 100 / n, "drop_low": -0.4, "drop_high": 1.1, "n": n}
    sizes = {"weight_bytes": 18_430, "float32_weight_bytes": 95_784}
    found = {"max_drop": 0.5, "baseline": baseline, "n": n, "part": "val", "points": points, "chosen": chosen["format"]}
    return found | sizes | {"confirmed": confirmed | {"lost": 1, "gained": 0}}


def bench() -> dict[str, Any]:
    def row(runtime: str, batch: int, median_ms: float) -> dict[str, Any]:
        spread = {"median_ms": median_ms, "q1_ms": 0.94 * median_ms, "q3_ms": 1.12 * median_ms}
        return {"runtime": runtime, "batch": batch, **spread, "images_per_s": 1e3 * batch / median_ms, "rounds": 9, "calls": 20}

    network = [row("torch", 1, 0.412), row("onnxruntime", 1, 0.134), row("openvino", 1, 0.118)]
    network += [row("torch", 16, 2.31), row("onnxruntime", 16, 1.42), row("openvino", 16, 1.29)]
    file = [row("onnxruntime", 1, 0.187), row("onnxruntime", 16, 1.9)]
    return {
        "threads": 1,
        "input": [1, 24, 24],
        "image_size": [28, 28],
        "network": network,
        "file": file,
        "notes": ["bfloat16 was not tried."],
    }


def export() -> dict[str, Any]:
    parity = {"runtime": "onnxruntime", "images": 360, "disagreements": [], "ties": [41], "seconds": 0.3, "tie": 1e-4, "passed": True}
    differences = {"largest_score_difference": 3.1e-7, "largest_logit_difference": 2.2e-6}
    return {"path": "model.onnx", "target": "onnx", "files": ["model.onnx"], "size_bytes": 104_331, "parity": parity | differences}


DECISIONS = [
    {"stage": "input", "choice": "24 × 24 grey", "reason": "the median image is 28 × 28 and every image is grey"},
    {"stage": "network", "choice": "smallnet", "reason": "1,077 training images of 10 classes: a small network learns them and is fast"},
    {
        "stage": "training",
        "choice": "SGD, one cycle, 24 epochs",
        "reason": "fits in half of the 10 minutes given, measured at 1.1 s an epoch",
    },
    {"stage": "bits", "choice": "int6", "reason": "the fewest bits that stay within 0.5 points"},
]


def averages() -> dict[str, Any]:
    """As ``convsmith average`` writes it."""
    keys = ("name", "told", "passes", "accuracy", "gain", "gain_low", "gain_high", "ms", "cost", "worth")
    rows = (
        ("plain", "one look at each image", 1, 0.95, 0.0, -0.7, 0.7, 0.4, 1.0, True),
        ("crops", "middle and corners, mirrored too", 10, 0.94, -1.0, -2.0, 0.1, 3.9, 9.8, False),
        ("swa", "one network: the mean of 5 snapshots' weights", 1, 0.97, 2.0, 0.4, 3.5, 0.41, 1.02, True),
    )
    named = [dict(zip(keys, row, strict=True)) for row in rows]
    return {"part": "val", "n": 360, "rows": named, "choice": "swa", "absent": {"ensemble": "give other runs"}, "notes": ["A remark."]}


def certificate(classes: Sequence[str]) -> dict[str, Any]:
    """As ``convsmith precision certify`` writes it."""
    row = {"class": 1, "rival": len(classes) - 1, "margin": 0.31, "likely_bound": 0.12, "reason": "the bound exceeds the margin"}
    return {
        "plan_name": "int8",
        "against": "float32",
        "part": "test",
        "n": 360,
        "certain": 0.9611,
        "likely": 0.9861,
        "failure": 1e-6,
        "seconds_per_image": 0.0023,
        "margin": [4.1, 7.9, 11.2],
        "bound": [0.21, 0.33, 0.52],
        "likely_bound": [0.21, 0.32, 0.51],
        "room": {"edges": [-1.0, 0.0, 1.0, 2.0], "counts": [2, 12, 120, 220, 6]},
        "reasons": {"the bound exceeds the margin": 14},
        "least_room": [
            {**row, "image": "scan 017.png", "bound": 0.45, "proof": "likely"},
            {**row, "image": "scan <b>.png", "bound": None, "proof": "none"},
        ],
        "widths": [{"layer": "features.0", "terms": 27, "input_codes": [-126, 129], "bits": 19, "l1_bits": 20, "type_bits": 21}],
    }


def shrunk() -> dict[str, object]:
    """Four networks: one beaten, one beyond the limit, the quickest within it, and float32."""

    def row(name: str, plan: str, ms: float, right: int, file_bytes: int, frontier: bool = True, within: bool = True) -> dict[str, object]:
        seen = {"accuracy": right / 360, "low": right / 360 - 0.02, "high": right / 360 + 0.01, "drop": (349 - right) / 3.6, "n": 360}
        speeds = {"ms": ms, "batch_ms": 9 * ms, "batch": 16, "images_per_s": 16e3 / (9 * ms), "speedup": 0.31 / ms}
        sizes = {"file_bytes": file_bytes, "memory_bytes": file_bytes + 50_000, "energy_uj": 9.1 * ms, "macs": 1_000_000}
        return {"name": name, "plan": plan, "edits": [], "test": seen if frontier else None, "folder": f"shrink/{name}",
                "frontier": frontier, "within": within} | seen | speeds | sizes  # fmt: skip

    points = [
        row("int8, 0.4 of the time", "int8", 0.05, 340, 60_000, within=False), row("int8", "int8", 0.11, 349, 170_000),
        row("float32", "float32", 0.31, 349, 640_000), row("bf16 weights", "e8m7 weights", 0.33, 348, 330_000, frontier=False),
    ]  # fmt: skip
    limits = {"max_drop": 0.5, "max_ms": None, "max_mb": None, "part": "val", "n": 360, "baseline": 349 / 360, "threads": 2, "batch": 16}
    torch_ms = {"torch_ms": 1.2, "torch_batch_ms": 3.4}
    return limits | torch_ms | {"points": points, "chosen": "int8", "folder": "runs/x/shrink/int8", "notes": ["The time was over."]}


def write_run(folder: Path, *, classes: Sequence[str] = DIGITS, accuracy: float = 0.97, n: int = 360, pictures: bool = True) -> Evaluation:
    """Write every file of a run into ``folder`` and return the evaluation."""
    logits, labels = predictions(len(classes), n, accuracy=accuracy)
    found = evaluate(logits, labels, classes, temperature=fit_temperature(*predictions(len(classes), n, seed=9, accuracy=accuracy)))
    record = runs.create(folder, "forge", {"data": "my digits", "max_drop": 0.5, "time": "10m"}, data="my digits", command=COMMAND)
    for row in epochs():
        record.event("epoch", **row)
    record.write_predictions(logits, labels, [f"scan {index:03d}.png" for index in range(n)])
    documents = {
        "dataset": dataset(classes),
        "preprocess": {"height": 24, "width": 24, "channels": 1, "resize": "squash", "mean": [0.305], "std": [0.377]},
        "model": {"name": "smallnet", "classes": list(classes), "in_channels": 1, "input_size": [24, 24]},
        "evaluation": found.to_dict(),
        "averages": averages(),
        "analysis": analysis(),
        "precision": precision(),
        "certificate": certificate(classes),
        "export": export(),
        "bench": bench(),
        "shrink": shrunk(),
        "decisions": DECISIONS,
        "quote": {
            "quoted": {"seconds": 38, "memory_bytes": 512e6, "disk_bytes": 3.2e6},
            "measured": {"seconds": 41.2, "memory_bytes": 477e6, "disk_bytes": 3.3e6},
        },
    }
    for name, content in documents.items():
        record.write_json(f"{name}.json", content)
    if pictures:
        save_mistakes(folder, found, image, [f"scan {index:03d}.png" for index in range(n)])
    record.finish()
    return found


if __name__ == "__main__":
    import sys

    from convsmith import report

    write_run(Path(sys.argv[1]))
    print(report.write(sys.argv[1]))

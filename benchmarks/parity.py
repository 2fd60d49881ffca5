"""Claim: every exported file predicts what the network predicts: 0 disagreements over all validation images, at any batch and threads.

Networks: SmallNet trained for a moment on the bundled digits (359 validation images of 8 x 8), and ResNet-20 with given weights on CIFAR-10
images (CONVSMITH_DATA; the network was trained on some of them, which does not matter here). Every kind of file of `targets.TARGETS` that
opens on this machine is written, opened again in its own runtime and run on every image with batches of 1, 7 and 16 on 1 and 2 threads.
Expected is what torch says of the float32 network; for `qdq` and the native file under int8 what the compiled plan says, for `qonnx` what
the emulation says, at int8, int4 and 16-bit fixed point. A tie, where the two best scores of the network differ by less than 1e-4, is
counted apart. Under `qonnx` a float32 sum in another order may carry an activation to the next step, so scores differ by more there.
OpenVINO opens `qdq` files too, but requantises in its own way, so that a code may be the next one: its row is shown and not counted.
Results: docs/results/parity.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer

from convsmith import compiler, data, formats, models, precision, targets, training
from convsmith.errors import UnsupportedError
from convsmith.interop import pytorch
from convsmith.redesign import fold_batch_norm

SETTINGS = tuple((batch, threads) for batch in (1, 7, 16) for threads in (1, 2))
PLANS = {"qdq": ("int8",), "native": ("", "int8"), "qonnx": ("int8", "int4", "q4.12")}


@dataclass
class Case:
    """A network with its images and what it says of them."""

    name: str
    graph: Any
    preprocess: data.Preprocess
    classes: tuple[str, ...]
    images: list[np.ndarray]
    logits: np.ndarray
    x: np.ndarray


def digits() -> Case:
    dataset = data.open("digits")
    preprocess, _ = data.choose_preprocess(dataset)
    torch.manual_seed(0)
    module = models.load("smallnet", classes=10, in_channels=1, input_size=(preprocess.height, preprocess.width))
    training.fit(module, dataset, training.Training(epochs=3, threads=1), preprocess=preprocess)
    return case("SmallNet, digits", module.eval(), preprocess, tuple(dataset.classes), dataset.splits["val"], 0)


def cifar(folder: Path, most: int) -> Case:
    weights = folder / "weights" / "resnet20_cifar10" / "resnet20-12fca82f.th"
    module = models.load("resnet20", classes=10, in_channels=3, input_size=(32, 32), weights=weights)
    dataset = data.open(folder / "data" / "cifar10" / "original-4000")
    preprocess = data.Preprocess(32, 32, 3, "squash", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return case("ResNet-20, CIFAR-10", module.eval(), preprocess, tuple(dataset.classes), dataset.test, most)


def case(name: str, module: torch.nn.Module, preprocess: data.Preprocess, classes: tuple[str, ...], split: Any, most: int) -> Case:
    images = [split.image(index) for index in range(min(most or len(split), len(split)))]
    x = data.prepare(images, preprocess)
    with torch.no_grad():
        logits = module(torch.from_numpy(x)).numpy()
    return Case(name, pytorch.read(module, (1, *x.shape[1:])), preprocess, classes, images, logits, x)


def expected(case: Case, target: str, plan: precision.Plan | None, ranges: Any) -> np.ndarray:
    """Return the logits that the file must give."""
    if plan is None:
        return case.logits
    if target == "qonnx":
        return precision.emulate(case.graph, plan, ranges)(torch.from_numpy(case.x)).numpy()
    return compiler.build(case.graph, plan, ranges=ranges)(case.x)


def rows(case: Case) -> Iterator[list[Any]]:
    """Yield target, formats, runs, disagreements, ties and the largest differences of scores and logits."""
    ranges = precision.calibrate(fold_batch_norm(case.graph), case.x[:256])
    for target, kind in targets.TARGETS.items():
        if kind.runtime is None:
            continue
        for name in PLANS.get(target, ("",)):
            plan = precision.candidate(formats.parse(name), precision.layout(case.graph)).plan if name else None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / kind.file
                given = {"plan": plan, "ranges": ranges} if plan else {}
                given["confidence"] = targets.Confidence(1.3, 0.5)
                try:
                    targets.export(case.graph, case.preprocess, case.classes, path, target=target, **given)
                except UnsupportedError as error:
                    yield [target, name or "float32", 0, str(error).split(";")[0], "", "", ""]
                    continue
                wanted = expected(case, target, plan, ranges)
                yield [target, name or "float32", *compared(case, path, wanted)]
                if target == "qdq":
                    yield ["qdq in OpenVINO", name, *compared(case, path, wanted, "openvino")]


def compared(case: Case, path: Path, wanted: np.ndarray, runtime: str | None = None) -> list[Any]:
    """Return runs, disagreements, ties and the largest differences of scores and logits."""
    found = [targets.parity(path, case.images, wanted, runtime=runtime, batch=batch, threads=threads) for batch, threads in SETTINGS]
    differing, ties = sum(len(item.disagreements) for item in found), max(len(item.ties) for item in found)
    scores, logits = max(item.largest_score_difference for item in found), max(item.largest_logit_difference for item in found)
    return [len(found), differing, ties, f"{scores:.1e}", f"{logits:.1e}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CONVSMITH_DATA", ".")))
    parser.add_argument("--images", type=int, default=1000, help="CIFAR-10 images")
    given = parser.parse_args()
    cases = [digits(), *([cifar(given.data, given.images)] if (given.data / "weights").is_dir() else [])]
    text = ["# Parity", "", *(__doc__ or "").strip().split("\n\n"), ""]
    wrong = 0
    for item in cases:
        text += [f"## {item.name}: {len(item.images):,} images", ""]
        text += [
            "| target | formats | runs | disagreements | ties | scores differ by | logits differ by |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows(item):
            wrong += row[3] if isinstance(row[3], int) and row[0] in targets.TARGETS else 0
            text.append("| " + " | ".join(map(str, row)) + " |")
            print(text[-1], flush=True)
        text.append("")
    text.append(f"Disagreements in all: **{wrong}**.")
    text.append(footer(("convsmith", "torch", "onnxruntime", "openvino", "onnx", "pillow")))
    (RESULTS / "parity.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()

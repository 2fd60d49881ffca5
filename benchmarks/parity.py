"""Claim: every exported file predicts what the network predicts: 0 disagreements over all validation images, at any batch and threads.

Networks: SmallNet trained for a moment on the bundled digits (359 validation images of 8 x 8); with CONVSMITH_DATA also ResNet-20 with
given weights on CIFAR-10 images (the validation half of the lossy test images, 5,000), and MobileNetV2 and SqueezeNet 1.1 on 167 photos.
Every kind of file of `targets.TARGETS` that opens on this machine is written, opened again in its own runtime and run on every image, with
several batches and numbers of threads. Expected is what torch says of the float32 network; for `qdq` and the native file under int8 what
the compiled plan says, for `qonnx` what the emulation says, at int8, int4 and 16-bit fixed point. A tie, where the two best scores of the
network differ by less than 1e-4, is counted apart. Under `qonnx` a float32 sum in another order may carry an activation to the next step,
so scores differ by more there, and a code that is the next one may change a class that was close.
OpenVINO opens `qdq` files too, but requantises in its own way, so that a code may be the next one: its row is shown and not counted.
Results: docs/results/parity.md. Usage: parity.py [--case digits cifar mobilenet_v2 squeezenet] [--images N] [--settings 7x1 16x2]
[--state FILE]; rows in the file are not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8_accuracy import WEIGHTS
from machine import RESULTS, footer

from convsmith import compiler, data, formats, models, precision, targets, training
from convsmith.errors import UnsupportedError
from convsmith.interop import pretrained, pytorch
from convsmith.models.convention import TORCHVISION
from convsmith.redesign import fold_batch_norm

SETTINGS = tuple(f"{batch}x{threads}" for batch in (1, 7, 16) for threads in (1, 2))
CASES = ("digits", "cifar", "mobilenet_v2", "squeezenet")
PART = 250
"""Images that a network computes at once for what is expected."""

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
    split = dataset.splits["val"]
    return case("SmallNet, digits", module.eval(), preprocess, tuple(dataset.classes), [split.image(index) for index in range(len(split))])


def cifar(folder: Path, most: int) -> Case:
    weights = folder / "weights" / "resnet20_cifar10" / "resnet20-12fca82f.th"
    module = models.load("resnet20", classes=10, in_channels=3, input_size=(32, 32), weights=weights)
    preprocess = TORCHVISION.resized(32, 32).preprocess()
    dataset = data.open(folder / "data/cifar10/cifar10-jpeg-q75.tar.gz")
    rows = np.arange(0, len(dataset.test), 2)[: most or None]
    return case("ResNet-20, CIFAR-10", module.eval(), preprocess, tuple(dataset.classes), [dataset.test.image(int(row)) for row in rows])


def photos(name: str, folder: Path, most: int) -> Case:
    source = pretrained.find(folder / WEIGHTS[name])
    preprocess = source.convention.preprocess()
    module = pretrained.load(source, input_size=(preprocess.height, preprocess.width)).eval()
    samples = folder / "data/imagenet-samples"
    with (samples / "labels.csv").open() as lines:
        images = [data.read_image(samples / row["file"]) for row in csv.DictReader(lines)]
    classes = (samples / "classes.txt").read_text().splitlines()
    return case(f"{name}, photos", module, preprocess, tuple(classes), images[: most or None])


def case(name: str, module: torch.nn.Module, preprocess: data.Preprocess, classes: tuple[str, ...], images: list[np.ndarray]) -> Case:
    x = np.concatenate([data.prepare(images[start : start + PART], preprocess) for start in range(0, len(images), PART)])
    with torch.no_grad():
        logits = np.concatenate([module(part).numpy() for part in torch.from_numpy(x).split(PART)])
    return Case(name, pytorch.read(module, (1, *x.shape[1:])), preprocess, classes, images, logits, x)


def expected(case: Case, target: str, plan: precision.Plan | None, ranges: Any) -> np.ndarray:
    """Return the logits that the file must give."""
    if plan is None:
        return case.logits
    parts = [case.x[start : start + PART] for start in range(0, len(case.x), PART)]
    if target == "qonnx":
        emulated = precision.emulate(case.graph, plan, ranges)
        return np.concatenate([emulated(torch.from_numpy(part)).numpy() for part in parts])
    program = compiler.build(case.graph, plan, ranges=ranges)
    return np.concatenate([program(part) for part in parts])


def rows(case: Case, settings: list[str], kept: dict[str, list[Any]]) -> Iterator[list[Any]]:
    """Yield target, formats, images, runs, disagreements, ties and the largest differences of scores and logits."""
    ranges = precision.calibrate(fold_batch_norm(case.graph), case.x[:256])
    for target, kind in targets.TARGETS.items():
        if kind.runtime is None:
            continue
        for name in PLANS.get(target, ("",)):
            key = f"{case.name} | {target} | {name}"
            if key not in kept:
                kept[key] = list(exported(case, target, name, ranges, settings))
            yield from kept[key]


def exported(case: Case, target: str, name: str, ranges: Any, settings: list[str]) -> Iterator[list[Any]]:
    """Yield the rows of one file: in its own runtime, and of a QDQ file in OpenVINO."""
    kind = targets.TARGETS[target]
    plan = precision.candidate(formats.parse(name), precision.layout(case.graph)).plan if name else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / kind.file
        given = {"plan": plan, "ranges": ranges} if plan else {}
        given["confidence"] = targets.Confidence(1.3, 0.5)
        try:
            targets.export(case.graph, case.preprocess, case.classes, path, target=target, **given)
        except UnsupportedError as error:
            yield [target, name or "float32", 0, 0, str(error).split(";")[0], "", "", ""]
            return
        wanted = expected(case, target, plan, ranges)
        yield [target, name or "float32", len(case.images), *compared(case, path, wanted, settings)]
        if target == "qdq":
            yield ["qdq in OpenVINO", name, len(case.images), *compared(case, path, wanted, settings, "openvino")]


def compared(case: Case, path: Path, wanted: np.ndarray, settings: list[str], runtime: str | None = None) -> list[Any]:
    """Return runs, disagreements, ties and the largest differences of scores and logits."""
    counts = [tuple(map(int, setting.split("x"))) for setting in settings]
    found = [targets.parity(path, case.images, wanted, runtime=runtime, batch=batch, threads=threads) for batch, threads in counts]
    differing, ties = sum(len(item.disagreements) for item in found), max(len(item.ties) for item in found)
    scores, logits = max(item.largest_score_difference for item in found), max(item.largest_logit_difference for item in found)
    return [len(found), differing, ties, f"{scores:.1e}", f"{logits:.1e}"]


def page(kept: dict[str, list[Any]]) -> str:
    text, wrong = ["# Parity", "", *(__doc__ or "").strip().split("\n\n")], 0
    for name in dict.fromkeys(key.split(" | ")[0] for key in kept):
        text += ["", f"## {name}", "", "| target | formats | images | runs | disagreements | ties | scores differ by | logits differ by |"]
        text.append(f"|{'---|' * 8}")
        for row in (row for key, found in kept.items() if key.startswith(f"{name} | ") for row in found):
            wrong += row[4] if isinstance(row[4], int) and row[0] in targets.TARGETS else 0
            text.append(f"| {' | '.join(map(str, row))} |")
    text += ["", f"Disagreements in all: **{wrong}**.", footer(("convsmith", "torch", "onnxruntime", "openvino", "onnx", "pillow"))]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CONVSMITH_DATA", ".")))
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--images", type=int, default=0, help="of CIFAR-10 or photos, 0 for all")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="batch x threads")
    parser.add_argument("--state", type=Path, help="file of rows, to go on with")
    given = parser.parse_args()
    kept = json.loads(given.state.read_text()) if given.state is not None and given.state.exists() else {}
    for name in given.case:
        if name != "digits" and not (given.data / "weights").is_dir():
            continue
        makers = {"digits": digits, "cifar": lambda: cifar(given.data, given.images)}
        item = makers.get(name, lambda name=name: photos(name, given.data, given.images))()
        for row in rows(item, given.settings, kept):
            print(item.name, *row, flush=True)
            if given.state is not None:
                given.state.write_text(json.dumps(kept))
    (RESULTS / "parity.md").write_text(page(kept).replace(f" --state {given.state}", " --state FILE"))


if __name__ == "__main__":
    main()

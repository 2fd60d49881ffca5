"""Claim: post-training int8 loses at most 0.2 points on the mean of the networks with given weights; which step against it brings what.

ResNet-20 and the ResNet-8 of MLPerf Tiny on CIFAR-10: 3,000 test images as JPEGs (lossy, so that levels are 10 points below the
published ones) and 3,744 original training images. SqueezeNet 1.1 and MobileNetV2 on 167 photos of ImageNet, one of which is 0.6 points:
there the share of float32's answers that stay says more. Calibration: 256 other CIFAR images; of the photos every second one, and again
the others, so that each is judged by codes that have not seen it. All weights and activations in 8 bits, judged by the native engine; then
the same with weights of 4 bits, where the steps have something to do. `no images`: codes from the statistics of batch norm alone, where a
network has it. Nothing is timed. Needs CONVSMITH_DATA. Usage: int8_accuracy.py [--bits 8 4] [--quick] [--only RECIPE ...] [network ...]
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer
from PIL import Image

from convsmith import compiler, data, precision
from convsmith.formats import Format
from convsmith.graph import Graph
from convsmith.interop import pretrained, pytorch
from convsmith.models.convention import TORCHVISION
from convsmith.precision import Plan
from convsmith.precision.data_free import without_images
from convsmith.precision.post_training import PostTraining, Recipe

Part = tuple[np.ndarray, np.ndarray]
Fold = tuple[np.ndarray, dict[str, Part]]
"""Calibration images, and the parts to judge on."""

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WEIGHTS = {
    "resnet20": "weights/resnet20_cifar10/resnet20-12fca82f.th",
    "resnet8": "weights/resnet8_cifar10_keras/pretrainedResnet.h5",
    "squeezenet": "weights/squeezenet_v1.1/squeezenet_v1.1.caffemodel",
    "mobilenet_v2": "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors",
}
RECIPES = [
    Recipe("max"), Recipe("percentile"), Recipe("mse"), Recipe("max", ("equalise",)), Recipe("max", ("bias",)), Recipe("max", ("round",)),
    Recipe("max", ("round", "bias")),
]  # fmt: skip
ROUNDING_STEPS = 300
BLIND = "no images"
LABELS = (*map(str, RECIPES), BLIND)


def cifar(root: Path, normalise: Any) -> list[Fold]:
    raw = np.concatenate([np.fromfile(root / "data/cifar10/original-4000" / f"{n}.bin", np.uint8) for n in ("data_batch_1", "test_batch")])
    records = raw.reshape(-1, 3073)
    images, labels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)
    # of every class the first 300 of 1,000 test images
    wanted = lambda member: member.isfile() and "/test/" in f"/{member.name}" and int(Path(member.name).stem) < 300  # noqa: E731
    found: dict[str, Part] = {"3,744 originals": (normalise(images[256:]), labels[256:])}
    with tarfile.open(root / "data/cifar10/cifar10-jpeg-q75.tar.gz") as archive:
        test = [(member.name, archive.extractfile(member).read()) for member in archive if wanted(member)]  # type: ignore[union-attr]
    photos = np.stack([np.asarray(Image.open(BytesIO(content)).convert("RGB")) for _, content in test])
    truth = np.array([CIFAR_CLASSES.index(Path(name).parent.name) for name, _ in test])
    found["3,000 test JPEGs"] = (normalise(photos), truth)
    return [(normalise(images[:256]), found)]


def photos(root: Path, preprocess: Any) -> list[Fold]:
    folder = root / "data/imagenet-samples"
    with (folder / "labels.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    pictures = np.stack([data.resize(data.read_image(folder / row["file"]), preprocess) for row in rows])
    x, truth = data.normalise(pictures, preprocess), np.array([int(row["class_index"]) for row in rows])
    return [(x[1 - turn :: 2], {"167 photos": (x[turn::2], truth[turn::2])}) for turn in range(2)]


def opened(name: str, root: Path) -> tuple[Graph, list[Fold], tuple[np.ndarray, np.ndarray]]:
    """Return the network, its images, and what black and white are by channel."""
    source = pretrained.find(root / WEIGHTS[name])
    convention = TORCHVISION.resized(32, 32) if name == "resnet20" else source.convention
    preprocess = convention.preprocess()
    module = pretrained.load(source, input_size=(preprocess.height, preprocess.width)).eval()
    graph = pytorch.read(module, (1, 3, preprocess.height, preprocess.width))
    scale, shift = data.affine(preprocess)
    ends = shift, 255 * scale + shift
    if name.startswith("resnet"):
        return graph, cifar(root, lambda images: data.normalise(np.ascontiguousarray(images), preprocess)), ends
    return graph, photos(root, preprocess), ends


def answers(graph: Graph, x: np.ndarray) -> np.ndarray:
    program = compiler.build(graph, threads=1)
    return np.concatenate([program(x[start : start + 64]).reshape(len(x[start : start + 64]), -1) for start in range(0, len(x), 64)])


def plan_of(graph: Graph, bits: int) -> Plan:
    plan = precision.candidate("int8", precision.layout(graph)).plan
    narrow = Format.integer(bits, symmetric=True)
    return Plan(tuple(dataclasses.replace(rule, format=narrow) if rule.role == "weight" else rule for rule in plan.rules), f"w{bits}a8")


def measured(name: str, bits: int, root: Path, quick: bool, only: list[str] | None) -> dict[str, Any]:
    """Return drops of every recipe on every part, and of the one that is chosen without labels; ``only``: of these."""
    graph, folds, ends = opened(name, root)
    works = [PostTraining(graph, plan_of(graph, bits), calibration) for calibration, _ in folds]
    parts = list(folds[0][1])
    float32 = {part: np.concatenate([answers(works[0].graph, fold[part][0]) for _, fold in folds]) for part in parts}
    truth = {part: np.concatenate([fold[part][1] for _, fold in folds]) for part in parts}
    recipes = [recipe for recipe in RECIPES if not (quick and "round" in recipe.measures)]
    makers: dict[str, Any] = {str(recipe): lambda work, recipe=recipe: work.make(recipe, ROUNDING_STEPS) for recipe in recipes}
    if any(node.op == "BatchNormalization" for node in graph):
        makers[BLIND] = lambda work: without_images(graph, work.plan, *ends)
    makers["chosen"] = lambda work: work.choose(["equalise", "bias"])
    rows: dict[str, Any] = {}
    for label, make in ((label, make) for label, make in makers.items() if only is None or label in only):
        coded = [make(work) for work in works]
        told = " or ".join(dict.fromkeys(str(made.recipe) for made in coded))
        row: dict[str, Any] = {"recipe": told, "parts": {}}
        row["error"] = float(np.mean([work.error(made.codes) for work, made in zip(works, coded, strict=True)]))
        for part in parts:
            found = np.concatenate([answers(made.codes, fold[part][0]) for made, (_, fold) in zip(coded, folds, strict=True)])
            labels, before = truth[part], float32[part].argmax(1)
            compared = precision.compare(*(precision.Score.of(chosen == labels) for chosen in (before, found.argmax(1))))
            same = float((found.argmax(1) == before).mean())
            row["parts"][part] = compared | {"float32": float((before == labels).mean()), "same": same}
        rows[label] = row
        print(name, bits, label, {part: round(v["drop"], 2) for part, v in row["parts"].items()}, f"{row['error']:.2e}", flush=True)
    return rows


def page(found: dict[str, Any]) -> str:
    parts = []
    for bits in (8, 4):
        names = [name for name in WEIGHTS if f"{name} {bits}" in found]
        if not names:
            continue
        head = [
            "network, images",
            "float32",
            *LABELS,
            "chosen without labels",
            "its drop (95 %)",
            "same answers",
        ]
        lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        drops = []
        for name in names:
            rows = found[f"{name} {bits}"]
            for part in rows["max"]["parts"]:
                cells = [f"{rows[label]['parts'][part]['drop']:+.2f}" if label in rows else "-" for label in LABELS]
                best, own = rows["chosen"], rows["chosen"]["parts"][part]
                interval = f"**{own['drop']:+.2f}** ({own['drop_low']:+.2f} to {own['drop_high']:+.2f})"
                told = [f"{name}, {part}", f"{100 * own['float32']:.2f} %", *cells, best["recipe"], interval, f"{100 * own['same']:.2f} %"]
                lines.append(f"| {' | '.join(told)} |")
            drops.append(next(reversed(rows["chosen"]["parts"].values()))["drop"])
            errors = [f"{100 * rows[label]['error']:.2f}" if label in rows else "-" for label in LABELS]
            lines.append(f"| {name}, noise of the answer | | {' | '.join(errors)} | | {100 * rows['chosen']['error']:.2f} | |")
        mean = float(np.mean(drops))
        verdict = f"Mean drop of the chosen recipes over {len(drops)} networks, each on its last row of images: **{mean:+.2f}** points"
        verdict += f" (claim: at most 0.2{', reached' if mean <= 0.2 else ', not reached'})." if bits == 8 else "."
        parts.append(f"## Weights of {bits} bits, activations of 8\n\n{verdict}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(WEIGHTS))
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--only", nargs="+", help="recipes to measure now, such as 'no images'; what was found of others stays")
    parser.add_argument("--quick", action="store_true", help="leave adaptive rounding out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, store = Path(os.environ["CONVSMITH_DATA"]), RESULTS / "int8_accuracy.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    for bits in options.bits:
        for name in options.names:
            new = measured(name, bits, root, options.quick, options.only)
            found[f"{name} {bits}"] = (found.get(f"{name} {bits}", {}) if options.only else {}) | new
            store.write_text(json.dumps(found, indent=1) + "\n")
    notes = (
        "Drops in points against float32 on the same images; positive is worse. Noise of the answer: about the probability, in %, that a "
        "class changes, on calibration images that nothing was fitted on. `-` was not run: rounding up or down takes minutes. "
        f"`round` took {ROUNDING_STEPS} steps a layer."
    )
    text = f"# 8-bit codes after training: accuracy\n\n{notes}\n\n{page(found)}\n"
    (RESULTS / "int8_accuracy.md").write_text(text + footer(("convsmith", "torch", "numpy")))


if __name__ == "__main__":
    main()

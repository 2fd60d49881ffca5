"""Claim: on real images the native engine names the class that PyTorch in float32 names, for every network of the zoo.

84 photos of ImageNet for networks of photos (21 above 7 GMAC an image), 500 CIFAR-10 and 500 MNIST images for the others, each network at
the size of its source; then 34 networks of timm, which the zoo has not, on 16 photos of 128 pixels. Weights are the given ones where there
are some; else drawn at random, with the statistics of batch norms from 32 other images (8 above 7 GMAC), layers of networks without batch
norm scaled to outputs of variance 1 (Mishkin, Matas 2015, arXiv 1511.06422), and the last layer scaled so that every class has a mean of 0
and a variance of 1: else one class would win every image and equality would mean nothing. Algorithms are chosen by rule, Winograd among
them; batches of 16, and the first 8 images one by one as well. A tie, where the two best scores of PyTorch differ by less than 1e-4, is
counted apart. Nothing is timed. Needs CONVSMITH_DATA. Usage: engine_parity.py [--resume] [--state FILE] [network ...]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, footer
from torch import nn

from convsmith import compiler, data, models
from convsmith.data import Preprocess
from convsmith.interop import pretrained, pytorch
from convsmith.models.convention import TORCHVISION
from convsmith.targets.agreement import TIE
from convsmith.targets.scores import softmax

WEIGHTS = {
    "resnet20": "weights/resnet20_cifar10/resnet20-12fca82f.th",
    "mlperf_resnet8": "weights/resnet8_cifar10_keras/pretrainedResnet.h5",
    "squeezenet1_1": "weights/squeezenet_v1.1/squeezenet_v1.1.caffemodel",
    "mobilenet_v2": "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors",
}
OTHERS = (
    "regnety_002", "mobilenetv3_small_050", "convnext_atto", "densenet121", "ghostnet_050", "repvgg_a0", "seresnet18", "efficientnet_lite0",
    "inception_v3", "hrnet_w18_small", "dla46_c", "skresnet18", "resnest14d", "res2net50_26w_4s", "darknet17", "vovnet39a", "rexnet_100",
    "botnet26t_256", "fastvit_t8", "mobilenetv4_conv_small", "dpn48b", "tinynet_e", "lcnet_035", "resnetv2_50", "xception41", "mixnet_s",
    "mobileone_s0", "fbnetc_100", "resnext26ts", "gernet_s", "selecsls42b", "cspresnet50", "efficientnet_b0", "mobilenetv3_large_100",
)  # fmt: skip
"""Networks of timm, none of them in the zoo: squeeze-and-excite, dense and split blocks, re-parameterised ones, attention."""
OTHER_SIDE, OTHER_PHOTOS = 128, 16
CALIBRATION, SMALL, PHOTOS, SINGLE, BATCH, LARGE = 32, 500, 84, 8, 16, 7_000_000_000


@cache
def pictures(root: Path, kind: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return decoded images to normalise by and images to judge on."""
    if kind == "photos":
        folder = root / "data/imagenet-samples"
        with (folder / "labels.csv").open() as lines:
            names = [row["file"] for row in csv.DictReader(lines)][::2][:PHOTOS]
        others = sorted((root / "data/flowers5/train").glob("*/*.jpg"))[::4][:CALIBRATION]
        return [data.read_image(path) for path in others], [data.read_image(folder / name) for name in names]
    split = data.open(root / ("data/mnist" if kind == "digits" else "data/cifar10/original-4000")).test
    images = [split.image(index) for index in range(CALIBRATION + SMALL)]
    return images[:CALIBRATION], images[CALIBRATION:]


def opened(name: str, root: Path) -> tuple[nn.Module, Preprocess]:
    """Return the network and what it reads; without given weights its start is drawn."""
    if name.startswith("timm/"):
        torch.manual_seed(0)
        return models.load(name, classes=1000, input_size=(OTHER_SIDE, OTHER_SIDE)).eval(), TORCHVISION.resized(
            OTHER_SIDE, OTHER_SIDE
        ).preprocess()
    channels, height, width = models.ZOO[name].input
    if name in WEIGHTS:
        source = pretrained.find(root / WEIGHTS[name])
        preprocess = (TORCHVISION.resized(32, 32) if name == "resnet20" else source.convention).preprocess()
        return pretrained.load(source, input_size=(preprocess.height, preprocess.width)).eval(), preprocess
    torch.manual_seed(0)
    module = models.load(name, classes=models.ZOO[name].classes, in_channels=channels, input_size=(height, width))
    shown = TORCHVISION.preprocess()
    mean, std = (shown.mean, shown.std) if channels == 3 else ((0.1307,), (0.3081,))
    return module.eval(), Preprocess(height, width, channels, "crop", 1.0, mean, std)


def normalise(module: nn.Module, x: torch.Tensor) -> None:
    """Give a network with drawn weights the statistics of these images."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    layers = [part for part in module.modules() if type(part) in (nn.Conv2d, nn.Linear)]
    order: list[nn.Module] = []
    for part in norms:
        part.reset_running_stats()
        part.momentum = None
        part.train()

    def scale(part: Any, given: Any, y: torch.Tensor) -> torch.Tensor:
        order.append(part)
        if not part.weight.any():
            nn.init.normal_(part.weight)
        elif norms:
            return y
        part.weight.div_(type(part).forward(part, *given).std())
        return type(part).forward(part, *given)

    def spread(part: Any, _: Any, y: torch.Tensor) -> None:
        axes = [axis for axis in range(y.ndim) if axis != 1]
        mean, std = y.mean(axes), y.std(axes).clamp_min(1e-6)
        bias = part.bias if part.bias is not None else torch.zeros_like(mean)
        part.bias = nn.Parameter((bias - mean) / std)
        part.weight.div_(std.reshape(-1, *[1] * (part.weight.ndim - 1)))

    with torch.no_grad():
        hooks = [part.register_forward_hook(scale) for part in layers]
        module(x)
        for hook in hooks:
            hook.remove()
        module.eval()
        if order and not any(norm.num_features == order[-1].weight.shape[0] for norm in norms[-1:]):
            hook = order[-1].register_forward_hook(spread)
            module(x)
            hook.remove()


def logits_of(run: Any, x: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate(
        [np.asarray(run(x[start : start + size])).reshape(len(x[start : start + size]), -1) for start in range(0, len(x), size)]
    )


def measured(name: str, root: Path, threads: int) -> dict[str, Any]:
    """Return how often the engine names another class than PyTorch."""
    module, preprocess = opened(name, root)
    kind = "photos" if preprocess.height > 32 else "digits" if preprocess.channels == 1 else "cifar"
    large = name in models.ZOO and (models.ZOO[name].macs or 0) > LARGE
    share = 4 if large else 1
    most = OTHER_PHOTOS if name.startswith("timm/") else None
    others, images = (data.prepare(found[: len(found) // share][:most], preprocess) for found in pictures(root, kind))
    if name not in WEIGHTS:
        normalise(module, torch.from_numpy(others))

    def plain(part: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(part)).numpy()

    program = compiler.build(pytorch.read(module, (1, *images.shape[1:])), threads=threads)
    expected, found = logits_of(plain, images, BATCH), logits_of(program, images, BATCH)
    single = logits_of(program, images[:SINGLE], 1)
    scores, ours = softmax(expected), softmax(found)
    best = np.sort(scores, axis=1)[:, -2:]
    other = found.argmax(1) != expected.argmax(1)
    other[:SINGLE] |= single.argmax(1) != expected[:SINGLE].argmax(1)
    tied = best[:, 1] - best[:, 0] < TIE
    return {
        "weights": "given" if name in WEIGHTS else "drawn",
        "images": len(images),
        "pictures": {"photos": "ImageNet", "digits": "MNIST", "cifar": "CIFAR-10"}[kind],
        "input": "x".join(map(str, images.shape[1:])),
        "classes": len(np.unique(expected.argmax(1))),
        "disagreements": int((other & ~tied).sum()),
        "ties": int((other & tied).sum()),
        "scores": float(np.abs(scores - ours).max()),
        "logits": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "algorithms": sorted({step.algorithm for step in program.executable((BATCH, *images.shape[1:])).steps if step.algorithm}),
    }


def everything() -> list[str]:
    return [*models.ZOO, *(f"timm/{name}" for name in OTHERS)]


def page(found: dict[str, Any]) -> str:
    lines = [
        "| network | weights | input | images | classes named | disagreements | ties | scores differ | logits, relative | algorithms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ((name, found[name]) for name in everything() if name in found):
        wrong = f"**{row['disagreements']}**" if row["disagreements"] else "0"
        lines.append(
            f"| {name} | {row['weights']} | {row['input']} | {row['images']} {row['pictures']} | {row['classes']} | {wrong} "
            f"| {row['ties']} | {row['scores']:.0e} | {row['logits']:.0e} | {', '.join(row['algorithms'])} |"
        )
    wrong, images = sum(row["disagreements"] for row in found.values()), sum(row["images"] for row in found.values())
    left = [name for name in everything() if name not in found]
    verdict = f"Disagreements in all: **{wrong}** of {images:,} answers of {len(found)} networks."
    return "\n".join([verdict + (f" Not run: {', '.join(left)}." if left else ""), "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=everything())
    parser.add_argument("--resume", action="store_true", help="keep the networks that were run before")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--state", type=Path, default=RESULTS / "engine_parity.json", help="file of the rows; the page goes beside it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    root, store = Path(os.environ["CONVSMITH_DATA"]), options.state
    found = json.loads(store.read_text()) if store.exists() else {}
    for name in options.names:
        if options.resume and name in found:
            continue
        found[name] = row = measured(name, root, options.threads)
        print(name, {key: row[key] for key in ("classes", "disagreements", "ties", "scores", "logits")}, flush=True)
        store.write_text(json.dumps(found, indent=1) + "\n")
        notes = str(__doc__).strip().split(" Usage:")[0]
        text = f"# The engine against PyTorch\n\n{notes}\n\n{page(found)}\n"
        store.with_suffix(".md").write_text(text + footer(("convsmith", "torch", "numpy")))


if __name__ == "__main__":
    main()

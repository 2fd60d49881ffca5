"""Claim: from 500x375 JPEGs to augmented 224 batches on 2 cores at least 2.5 times ImageFolder + PIL + DataLoader, 2 times the best peer.

And from packed pixels at least 12 times. Every contestant reads JPEGs of 500x375 (made once from the photos in ``--photos``, by default
CONVSMITH_DATA/data/imagenet-samples), cuts a random part (area 0.08 to 1, aspect 3/4 to 4/3), scales it to 224, mirrors half of them,
normalises, and gives batches of 64 as float32 tensors; ours decodes with libjpeg's faster transform, as the simplejpeg rows do. Peers have
their best of several settings: DataLoader with 2 worker processes and with the decoder in threads (OpenCV and simplejpeg let other threads
run), normalising each image or whole batches of bytes.
Rounds are interleaved in one process, each contestant reads all images in a round, again and again for 0.6 s; files are in the page cache
for all.

The limit is what two threads that do nothing else reach: decoding alone (the JPEG rows), the kernel alone (the packed rows).
WebDataset is an optional peer: ``pip install --no-deps --target FOLDER webdataset braceexpand`` and PYTHONPATH=FOLDER.

Results: docs/results/pipeline.md (machine, versions, medians, quartiles, n).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from machine import RESULTS, footer, quartiles
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, IterableDataset

from convsmith import data
from convsmith.data.opening import read
from convsmith.data.pack import write_pack
from convsmith.data.webdataset import write_shards
from convsmith.kernels.resampling import resample
from convsmith.training.augmentation import cutter
from convsmith.training.config import Augment

BATCH, SIDE, THREADS = 64, 224, 2
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
LEAST_S = 0.6
"""Seconds of every contestant in a round: those that are done sooner read all images again."""

GOALS = {"jpeg_pil": 2.5, "jpeg_best": 2.0, "packed_pil": 12.0}
AUGMENT = Augment(crop="inception", flip=True)
PREPROCESS = data.Preprocess(SIDE, SIDE, 3, "squash", mean=tuple(map(float, MEAN)), std=tuple(map(float, STD)))
JPEG, PACKED = "convsmith, JPEG files", "convsmith, packed pixels"
LIMITS = {JPEG: "limit: decoding alone, 2 threads", PACKED: "limit: kernel alone, 2 threads"}


def make_photos(source: Path, folder: Path, count: int) -> None:
    """Write ``count`` different JPEGs of 500x375 (quality 90), cut from the photos below ``source``, tighter when they come round again."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for place in range(count):
        turn, photo = divmod(place, len(found))
        image = Image.open(found[photo]).convert("RGB")
        image = ImageOps.fit(image, (500, 375), Image.Resampling.LANCZOS, bleed=0.03 * turn, centering=(turn % 3 / 2, 0.5))
        target = folder / "train" / f"class{photo % 2}"
        target.mkdir(parents=True, exist_ok=True)
        image.save(target / f"{place:05}.jpg", quality=90)


def box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of torchvision's RandomResizedCrop."""
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return top, left, top + h, left + w
    return 0, 0, height, width


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """Normalise one uint8 HWC image to float32 CHW."""
    return torch.from_numpy(np.ascontiguousarray(((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)))


def by_pil(raw: bytes, rng: np.random.Generator, floats: bool = True) -> torch.Tensor:
    """Do as ImageFolder with RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize."""
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    top, left, bottom, right = box(rng, image.height, image.width)
    image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, right, bottom))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return tensor(np.asarray(image)) if floats else torch.from_numpy(np.array(image))


def placed(pixels: np.ndarray, rng: np.random.Generator, floats: bool) -> torch.Tensor:
    top, left, bottom, right = box(rng, *pixels.shape[:2])
    small = cv2.resize(pixels[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        small = cv2.flip(small, 1)
    return tensor(small) if floats else torch.from_numpy(small)


def by_opencv(raw: bytes, rng: np.random.Generator, floats: bool = True) -> torch.Tensor:
    """Decode and scale with OpenCV."""
    return placed(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB), rng, floats)


def by_simplejpeg(raw: bytes, rng: np.random.Generator, floats: bool = True) -> torch.Tensor:
    """Decode with libjpeg-turbo's faster transform, scale with OpenCV."""
    return placed(simplejpeg.decode_jpeg(raw, fastdct=True, fastupsample=True), rng, floats)


class Files(Dataset):
    """JPEG files read and decoded in a worker."""

    def __init__(self, folder: Path, change: Callable[..., torch.Tensor], floats: bool) -> None:
        self.paths, self.change, self.floats = sorted(folder.rglob("*.jpg")), change, floats

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path = self.paths[index]
        return self.change(path.read_bytes(), np.random.default_rng(index), self.floats), int(path.parent.name[-1])


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Normalise a batch of bytes at once."""
    if x.dtype == torch.float32:
        return x
    scale, shift = torch.from_numpy(1 / (255 * STD)), torch.from_numpy(-MEAN / STD)
    return torch.addcmul(shift, x.float(), scale).permute(0, 3, 1, 2).contiguous()


def one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def loader(folder: Path, change: Callable[..., torch.Tensor], floats: bool) -> Callable[[], int]:
    """Return a round of a DataLoader with two processes that stay alive."""
    files = DataLoader(
        Files(folder, change, floats),
        BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        worker_init_fn=one_thread,
        prefetch_factor=2,
    )
    return lambda: sum(len(normalise(x)) for x, _ in files)


def threaded(folder: Path, change: Callable[..., torch.Tensor]) -> Callable[[], int]:
    """Return a round of the same in two threads, batches normalised at once, as far ahead as they get."""
    files = Files(folder, change, floats=False)
    pool = ThreadPoolExecutor(THREADS)

    def part(order: np.ndarray) -> list[torch.Tensor]:
        return [files[int(index)][0] for index in order]

    def go() -> int:
        order, done = np.random.permutation(len(files)), 0
        groups = [[pool.submit(part, piece) for piece in np.array_split(order[i : i + BATCH], 8)] for i in range(0, len(order), BATCH)]
        for group in groups:
            done += len(normalise(torch.stack([x for future in group for x in future.result()])))
        return done

    return go


class Shards(IterableDataset):
    """WebDataset shards with the decoder of simplejpeg, as bytes."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        rng = np.random.default_rng()
        for raw, label in self.pipeline:
            yield by_simplejpeg(raw, rng, False), int(label)


def webdataset(folder: Path) -> Callable[[], int] | None:
    """Return a round of WebDataset with two workers; None where it is not installed."""
    if importlib.util.find_spec("webdataset") is None:
        return None
    import webdataset as wds

    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    pipeline = wds.WebDataset(shards, shardshuffle=len(shards), nodesplitter=None, empty_check=False).shuffle(200).to_tuple("jpg", "cls")
    files = DataLoader(Shards(pipeline), BATCH, num_workers=2, persistent_workers=True, worker_init_fn=one_thread)
    return lambda: sum(len(normalise(x)) for x, _ in files)


def opened(path: Path) -> data.EncodedSplit:
    """Open all images as one part."""
    return data.open(path, val=0, test=0, workers=0, trainable=False).train


def ours(path: Path, count: int, waits: data.Waits | None = None, channels_last: bool = False) -> Callable[[], int]:
    """Return a round of Convsmith's stream over ``count`` images; ``waits`` adds up what its threads did."""
    split, epoch = opened(path), 0
    assert len(split) == count, f"{len(split)} of {count} images are left"

    def go() -> int:
        nonlocal epoch
        epoch += 1
        order = np.random.permutation(len(split))
        groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        settings = {"cut": cutter(split, PREPROCESS, AUGMENT, 0, epoch), "threads": THREADS, "quick": True, "waits": waits}
        batches = data.stream(split, groups, PREPROCESS, **settings, normalise=True, channels_last=channels_last)
        return sum(len(torch.from_numpy(x)) for x, _, _ in batches)

    return go


def decoding(folder: Path) -> Callable[[], int]:
    """Return a round of decoding and nothing else on two threads: the limit of the JPEG rows."""
    raws = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    pool = ThreadPoolExecutor(THREADS)

    def part(some: list[bytes]) -> int:
        return sum(simplejpeg.decode_jpeg(raw, fastdct=True, fastupsample=True).ndim > 0 for raw in some)

    return lambda: sum(pool.map(part, [raws[i::16] for i in range(16)]))


def scaling(path: Path) -> Callable[[], int]:
    """Return a round of the kernel and nothing else on two threads, always into the same batch: the limit of the packed rows."""
    split = opened(path)
    images = [split.image(index) for index in range(len(split))]
    boxes, mirrored = cutter(split, PREPROCESS, AUGMENT, 0, 1)(np.arange(len(split)))
    out, numbers = np.empty((BATCH, 3, SIDE, SIDE), np.float32), data.affine(PREPROCESS)

    def go() -> int:
        for start in range(0, len(images), BATCH):
            place = slice(start, min(start + BATCH, len(images)))
            resample(images[place], boxes[place], mirrored[place], out[: place.stop - start], numbers, threads=THREADS)
        return len(images)

    return go


def measure(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return images a second of each contestant in each round, every round in an order of its own; a first round of each warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    rng = np.random.default_rng(0)
    for turn in range(rounds + 1):
        for name in map(
            str, rng.permutation(list(contestants))
        ):  # who follows another's processes finds caches and memory as they left them
            began, images = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - began) < LEAST_S:
                images += contestants[name]()
            if turn:
                speeds[name].append(images / elapsed)
    return speeds


def table(speeds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows with ratios, the share of the limit and the goals."""
    middle = {name: quartiles(values)[1] for name, values in speeds.items()}
    pil = middle["ImageFolder as PIL, DataLoader"]
    best = max(value for name, value in middle.items() if not name.startswith(("convsmith", "limit", "ImageFolder")))
    goals = {
        JPEG: [(middle[JPEG] / pil, GOALS["jpeg_pil"]), (middle[JPEG] / best, GOALS["jpeg_best"])],
        PACKED: [(middle[PACKED] / pil, GOALS["packed_pil"])],
    }
    rows = ["| | images/s, median (quartiles) | times PIL | times best peer | of the limit | goal |", "|---|---|---|---|---|---|"]
    for name, values in speeds.items():
        low, mid, high = quartiles(values)
        goal = ", ".join(f"{wanted:g}x {'met' if ratio >= wanted else 'missed'}" for ratio, wanted in goals.get(name, ()))
        share = f"{mid / middle[LIMITS[name]]:.0%}" if name in LIMITS else ""
        rows.append(f"| {name} | {mid:.0f} ({low:.0f} to {high:.0f}) | {mid / pil:.2f} | {mid / best:.2f} | {share} | {goal} |")
    return rows


def profile(waits: data.Waits) -> str:
    """Return what an image costs the threads."""
    parts = {"read": waits.clock.disk_s, "decode": waits.clock.decode_s, "cut, scale, mirror and normalise": waits.clock.resample_s}
    return ", ".join(f"{1e6 * seconds / waits.images:.0f} to {what}" for what, seconds in parts.items())


def main() -> None:
    """Measure, print and write docs/results/pipeline.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    photos = Path(os.environ.get("CONVSMITH_DATA", ".")) / "data" / "imagenet-samples"
    parser.add_argument("--photos", type=Path, default=photos, help="folder with photos")
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the result page")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_photos(arguments.photos, folder / "photos", arguments.images)
        source = read(folder / "photos", workers=0)
        write_pack(source, folder / "pixels.pack", short_side=256)
        write_pack(source, folder / "jpeg.pack", encoding="jpeg")
        write_shards(source, folder / "shards", per_shard=128)
        waits = {JPEG: data.Waits(), PACKED: data.Waits()}
        contestants = {
            "ImageFolder as PIL, DataLoader": loader(folder / "photos", by_pil, True),
            "OpenCV, DataLoader": loader(folder / "photos", by_opencv, True),
            "OpenCV, DataLoader, batches normalised": loader(folder / "photos", by_opencv, False),
            "OpenCV, threads": threaded(folder / "photos", by_opencv),
            "simplejpeg, DataLoader, batches normalised": loader(folder / "photos", by_simplejpeg, False),
            "simplejpeg, threads": threaded(folder / "photos", by_simplejpeg),
            JPEG: ours(folder / "photos", arguments.images, waits[JPEG]),
            "convsmith, JPEG files, channels last": ours(folder / "photos", arguments.images, channels_last=True),
            "convsmith, packed JPEG": ours(folder / "jpeg.pack", arguments.images),
            PACKED: ours(folder / "pixels.pack", arguments.images, waits[PACKED]),
            LIMITS[JPEG]: decoding(folder / "photos"),
            LIMITS[PACKED]: scaling(folder / "pixels.pack"),
        }
        if (shards := webdataset(folder / "shards")) is not None:
            contestants["WebDataset, simplejpeg, batches normalised"] = shards
        rows = table(measure(contestants, arguments.rounds))
    page = [
        "# From JPEGs to augmented batches",
        "",
        f"{arguments.images} photos of 500x375, {arguments.rounds} interleaved rounds, batches of {BATCH} at {SIDE} px,",
        f"{THREADS} threads or processes. Packed pixels: short side 256.",
        "",
        *rows,
        "",
        "Microseconds of a thread for an image:",
        "",
        *(f"- {name}: {profile(spent)}" for name, spent in waits.items()),
        footer(("convsmith", "torch", "pillow", "simplejpeg", "opencv-python-headless", "webdataset", "numpy")),
    ]
    print("\n".join(page))
    if arguments.write:
        (RESULTS / "pipeline.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()

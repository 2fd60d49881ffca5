"""Claim: from 500x375 JPEGs to augmented 224 batches on 2 cores at least 2.5 times ImageFolder + PIL + DataLoader, 2 times the best peer.

And from packed pixels at least 12 times. Every contestant reads JPEGs of 500x375 (made once from the photos in ``--photos``), cuts a random
part (area 0.08 to 1, aspect 3/4 to 4/3), scales it to 224, mirrors half of them, normalises, and gives batches of 64 as float32 tensors;
ours decodes with libjpeg's faster transform, as the simplejpeg rows do. Peers have their best of several settings: DataLoader with 2 worker
processes and with the decoder in threads (OpenCV and simplejpeg let other threads run), normalising each image or whole batches of bytes.
Rounds are interleaved in one process, each contestant reads all images once a round; files are in the page cache for all.

The limit is what two threads that do nothing else reach: decoding alone (the JPEG rows), the kernel alone (the packed rows).
WebDataset is an optional peer: ``pip install --target FOLDER webdataset`` and PYTHONPATH=FOLDER.

Results: docs/results/pipeline.md (machine, versions, medians, quartiles, n).
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
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
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from convsmith import data
from convsmith.data.opening import read
from convsmith.data.pack import write_pack
from convsmith.data.webdataset import write_shards
from convsmith.training.augmentation import cutter
from convsmith.training.config import Augment

BATCH, SIDE, THREADS = 64, 224, 2
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
GOALS = {"jpeg_pil": 2.5, "jpeg_best": 2.0, "packed_pil": 12.0}
AUGMENT = Augment(crop="inception", flip=True)


def make_photos(source: Path, folder: Path, count: int) -> None:
    """Write ``count`` JPEGs of 500x375 (quality 90), cut from the photos below ``source``, mirrored to make up the number."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for place in range(count):
        image = Image.open(found[place % len(found)]).convert("RGB")
        width, height = image.size
        cut = min(width / 500, height / 375)
        left, top = (width - 500 * cut) * ((place // len(found)) % 3) / 2, (height - 375 * cut) / 2
        image = image.resize((500, 375), Image.Resampling.LANCZOS, (left, top, left + 500 * cut, top + 375 * cut))
        target = folder / "train" / f"class{place % 2}"
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
    """Return a round of the same in two threads, batches normalised at once, two batches ahead."""
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


def ours(path: Path, channels_last: bool = False) -> Callable[[], int]:
    """Return a round of Convsmith's stream."""
    split = data.open(path, val=0, test=0, trainable=False).train
    preprocess = data.Preprocess(SIDE, SIDE, 3, "squash", mean=tuple(map(float, MEAN)), std=tuple(map(float, STD)))
    epoch = 0

    def go() -> int:
        nonlocal epoch
        epoch += 1
        order = np.random.permutation(len(split))
        groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        cut = cutter(split, preprocess, AUGMENT, 0, epoch)
        batches = data.stream(split, groups, preprocess, cut=cut, threads=THREADS, quick=True, normalise=True, channels_last=channels_last)
        return sum(len(torch.from_numpy(x)) for x, _, _ in batches)

    return go


def decoding(folder: Path) -> Callable[[], int]:
    """Return a round of decoding and nothing else on two threads: the limit of the JPEG rows."""
    raws = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    pool = ThreadPoolExecutor(THREADS)

    def part(some: list[bytes]) -> int:
        return sum(simplejpeg.decode_jpeg(raw, fastdct=True, fastupsample=True).ndim > 0 for raw in some)

    return lambda: sum(pool.map(part, [raws[i::16] for i in range(16)]))


def measure(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return images a second of each contestant in each round; a first round of each warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            images = contestants[name]()
            if turn:
                speeds[name].append(images / (time.perf_counter() - began))
    return speeds


def table(speeds: dict[str, list[float]]) -> list[str]:
    """Return the Markdown rows with ratios, the share of the limit and the goals."""
    middle = {name: quartiles(values)[1] for name, values in speeds.items()}
    pil = middle["ImageFolder as PIL, DataLoader"]
    best = max(value for name, value in middle.items() if not name.startswith(("convsmith", "limit", "ImageFolder")))
    limit = middle["limit: decoding alone, 2 threads"]
    rows = ["| | images/s, median (quartiles) | times PIL | times best peer | of the limit | goal |", "|---|---|---|---|---|---|"]
    for name, values in speeds.items():
        low, mid, high = quartiles(values)
        goal, share = "", ""
        if name == "convsmith, JPEG files":
            met = mid / pil >= GOALS["jpeg_pil"], mid / best >= GOALS["jpeg_best"]
            goal, share = ", ".join(f"{g}x {'met' if ok else 'missed'}" for g, ok in zip((2.5, 2), met, strict=True)), f"{mid / limit:.0%}"
        if name == "convsmith, packed pixels":
            goal = f"12x {'met' if mid / pil >= GOALS['packed_pil'] else 'missed'}"
        rows.append(f"| {name} | {mid:.0f} ({low:.0f} to {high:.0f}) | {mid / pil:.2f} | {mid / best:.2f} | {share} | {goal} |")
    return rows


def main() -> None:
    """Measure, print and write docs/results/pipeline.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder with photos of at least 500x375")
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the result page")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_photos(arguments.photos, folder / "photos", arguments.images)
        source = read(folder / "photos")
        write_pack(source, folder / "pixels.pack", short_side=256)
        write_pack(source, folder / "jpeg.pack", encoding="jpeg")
        write_shards(source, folder / "shards", per_shard=128)
        contestants = {
            "ImageFolder as PIL, DataLoader": loader(folder / "photos", by_pil, True),
            "OpenCV, DataLoader": loader(folder / "photos", by_opencv, True),
            "OpenCV, DataLoader, batches normalised": loader(folder / "photos", by_opencv, False),
            "OpenCV, threads": threaded(folder / "photos", by_opencv),
            "simplejpeg, DataLoader, batches normalised": loader(folder / "photos", by_simplejpeg, False),
            "simplejpeg, threads": threaded(folder / "photos", by_simplejpeg),
            "convsmith, JPEG files": ours(folder / "photos"),
            "convsmith, JPEG files, channels last": ours(folder / "photos", channels_last=True),
            "convsmith, packed JPEG": ours(folder / "jpeg.pack"),
            "convsmith, packed pixels": ours(folder / "pixels.pack"),
            "limit: decoding alone, 2 threads": decoding(folder / "photos"),
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
        footer(("convsmith", "torch", "pillow", "simplejpeg", "opencv-python-headless", "webdataset", "numpy")),
    ]
    print("\n".join(page))
    if arguments.write:
        (RESULTS / "pipeline.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()

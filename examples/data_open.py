"""Open labelled images, see what is in them, and read them the way a network will."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from convsmith import data

digits = data.open("digits", val=0.2, test=0.2, seed=0)
print(f"{digits.name}: {len(digits.classes)} classes, " + ", ".join(f"{len(split)} {part}" for part, split in digits.splits.items()))
preprocess, reason = data.choose_preprocess(digits)
print(reason)
x_nhwc = data.pixels(digits.train, preprocess)
print("all training images:", x_nhwc.shape, x_nhwc.dtype, "the same images:", data.fingerprint(digits)[:12])

with tempfile.TemporaryDirectory() as folder:
    random = np.random.default_rng(0)
    for label, level in (("day", 200), ("night", 40)):
        (Path(folder) / label).mkdir()
        for number in range(10):
            noise = random.integers(-30, 30, (90, 120, 3)) + level
            Image.fromarray(noise.astype(np.uint8)).save(Path(folder) / label / f"photo {number}.jpg")
    (Path(folder) / "day" / "broken.jpg").write_bytes(b"not a picture")

    health = data.check(folder)
    print(f"{health.images} usable images, {health.left_out} left out, sizes {health.sizes['median']}")
    for problem in health.problems:
        print(f"  {problem.name}: {problem.reason}")

    photos = data.open(folder)
    preprocess, reason = data.choose_preprocess(photos, size=32)
    print(reason)
    order = random.permutation(len(photos.train))
    for x_nhwc, labels, indices in data.batches(photos.train, preprocess, 5, order=order, workers=1):
        print(x_nhwc.shape, [photos.classes[label] for label in labels], photos.train.name(int(indices[0])))

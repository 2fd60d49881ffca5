"""One name for exactly these images with exactly these labels and parts."""

from __future__ import annotations

import hashlib

import numpy as np

from convsmith.data.dataset import Dataset
from convsmith.data.images import EncodedSplit, ResidentSplit
from convsmith.data.input_size import split_sizes


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 (hex) of class names and of every part's file names, labels, sizes and, where known, pixel hashes."""
    total = hashlib.sha256("\0".join(dataset.classes).encode("utf-8", "surrogateescape"))
    for part in sorted(dataset.splits):
        split = dataset.splits[part]
        total.update(f"\0{part}\0{len(split)}\0".encode())
        total.update("\0".join(split.name(index) for index in range(len(split))).encode("utf-8", "surrogateescape"))
        total.update(np.ascontiguousarray(split.labels, "<i8").tobytes())
        total.update(np.ascontiguousarray(split_sizes(split), "<i4").tobytes())
        if isinstance(split, (ResidentSplit, EncodedSplit)):
            total.update(np.ascontiguousarray(split.digests, "<u8").tobytes())
    return total.hexdigest()

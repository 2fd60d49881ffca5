"""NumPy archives: x_train, y_train, x_test, y_test and their relatives, or images and labels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.source import FREE, Source, resident
from convsmith.errors import DataError

# part -> names of (images, labels) in the order they are tried
KEYS: dict[int, tuple[tuple[str, str], ...]] = {
    0: (("x_train", "y_train"), ("X_train", "y_train"), ("train_images", "train_labels")),
    1: (("x_val", "y_val"), ("X_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
    2: (("x_test", "y_test"), ("X_test", "y_test"), ("test_images", "test_labels")),
    FREE: (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"), ("data", "labels")),
}
NAME_KEYS = ("classes", "class_names", "label_names", "target_names")


def open_npz(path: Path) -> Source:
    """Open an npz of uint8 (or 0..1 or 0..255 float) images and whole-number or text labels.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1, 3 or 4 (alpha is laid on white).

    Raises: DataError that names the arrays found and those expected.
    """
    arrays = _load(path)
    found = {part: pair for part, pairs in KEYS.items() for pair in pairs[::-1] if set(pair) <= set(arrays)}
    if 0 not in found and FREE not in found:
        expected = "x_train, y_train (and x_test, y_test), or images, labels"
        raise DataError(f"{str(path)!r} has the arrays {', '.join(sorted(arrays)) or 'none'}; expected are {expected}")
    parts = [part for part in (0, 1, 2) if part in found] if 0 in found else [FREE]
    labels = {part: _labels(path, found[part][1], arrays[found[part][1]]) for part in parts}
    classes, numbered = _classes(path, arrays, labels)
    blocks = [(found[part][0], part, as_pixels(f"{path.name}: {found[part][0]}", arrays[found[part][0]]), numbered[part]) for part in parts]
    return resident(path.stem, str(path), classes, blocks)


def _load(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"{str(path)!r} is not an npz of plain arrays ({error})") from error


def _labels(path: Path, name: str, labels: NDArray[Any]) -> NDArray[Any]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iuUSb":
        raise DataError(f"{path.name}: {name} is {labels.dtype} of shape {labels.shape}; expected are whole numbers or texts of shape (n,)")
    return labels.astype(str) if labels.dtype.kind == "S" else labels


def _classes(
    path: Path, arrays: Mapping[str, NDArray[Any]], labels: Mapping[int, NDArray[Any]]
) -> tuple[tuple[str, ...], dict[int, NDArray[np.int64]]]:
    listed = next((arrays[name] for name in NAME_KEYS if name in arrays and arrays[name].dtype.kind in "US"), None)
    values = np.unique(np.concatenate(list(labels.values())))
    if listed is not None and values.dtype.kind in "iub":
        names = tuple(str(name) for name in listed.astype(str))
        return names, {part: array.astype(np.int64) for part, array in labels.items()}
    numbered = {part: np.searchsorted(values, array).astype(np.int64) for part, array in labels.items()}
    return tuple(str(value) for value in values), numbered


def as_pixels(name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images as uint8 NHWC with 1 or 3 channels.

    Raises: DataError for another layout or range.
    """
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and _channels_first(images.shape):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or 0 in images.shape:
        raise DataError(f"{name} has shape {images.shape}; expected is (n, h, w), (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels")
    if images.dtype != np.uint8:
        images = _eight_bit(name, images)
    if images.shape[3] == 4:
        alpha = images[..., 3:].astype(np.uint16)
        images = ((images[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(images)


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Tell (n, c, h, w): grey or RGB in axis 1 and not in axis 3; alpha counts only where neither has those."""
    usual = (shape[1] in (1, 3), shape[3] in (1, 3))
    return usual == (True, False) or (usual == (False, False) and shape[1] == 4 != shape[3])


def _eight_bit(name: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind not in "fiub" or not (0 <= low <= high <= 255):
        raise DataError(f"{name} holds {images.dtype} from {low:g} to {high:g}; expected is uint8, or numbers 0..1 or 0..255")
    unit = images.dtype.kind == "b" or (images.dtype.kind == "f" and high <= 1)
    return np.rint(images.astype(np.float32) * (255 if unit else 1)).astype(np.uint8)

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from test_public import publish, server  # noqa: F401

from convsmith import data
from convsmith.errors import DataError

RNG = np.random.default_rng(10)


def element(kind: int, raw: bytes) -> bytes:
    return struct.pack("<II", kind, len(raw)) + raw + bytes(-len(raw) % 8)


def matrix(name: str, array: np.ndarray) -> bytes:
    """A miMATRIX of uint8 as "MAT-File Level 5 File Format" has it: flags, dimensions, name, numbers column by column."""
    flags = element(6, struct.pack("<II", 9, 0))
    shape = element(5, struct.pack(f"<{array.ndim}i", *array.shape))
    return element(14, flags + shape + element(1, name.encode()) + element(2, array.tobytes(order="F")))


def mat_file(*matrices: bytes, compressed: bool = True) -> bytes:
    head = b"MATLAB 5.0 MAT-file, written by a test".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    parts = [struct.pack("<II", 15, len(packed := zlib.compress(m))) + packed for m in matrices] if compressed else list(matrices)
    return head + b"".join(parts)


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.integers(0, 256, (count, 32, 32, 3), np.uint8), (np.arange(count) % 10).astype(np.uint8)


def cropped(images: np.ndarray, labels: np.ndarray, *, compressed: bool = True) -> bytes:
    numbers = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    return mat_file(matrix("X", images.transpose(1, 2, 3, 0)), matrix("y", numbers), compressed=compressed)


@pytest.mark.parametrize("compressed", [True, False])
def test_images_and_digits_are_those_that_were_written(tmp_path: Path, compressed) -> None:
    written = {part: digits(count) for part, count in (("train", 30), ("test", 20))}
    for part, (images, labels) in written.items():
        (tmp_path / f"{part}_32x32.mat").write_bytes(cropped(images, labels, compressed=compressed))
    dataset = data.open(tmp_path, val=0)
    assert list(dataset.classes) == list("0123456789")
    for part, (images, labels) in written.items():
        split = dataset.splits[part]
        assert [dataset.classes[label] for label in split.labels] == [str(label) for label in labels]
        assert all(np.array_equal(split.image(row), images[row]) for row in range(len(labels)))


def test_the_easier_images_are_trained_on_too_and_one_file_opens_its_folder(tmp_path: Path) -> None:
    for part in ("train", "extra", "test"):
        (tmp_path / f"{part}_32x32.mat").write_bytes(cropped(*digits(20)))
    opened = data.open(tmp_path / "extra_32x32.mat", val=0)
    assert {part: len(split) for part, split in opened.splits.items()} == {"train": 40, "test": 20}


def test_it_is_fetched_checked_and_opened(server, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    files = {f"{part}_32x32.mat": cropped(*digits(count)) for part, count in (("train", 40), ("test", 20))}
    publish(monkeypatch, server, "svhn", files)
    dataset = data.load_public("svhn", tmp_path, val=0.5)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 20, "val": 20, "test": 20}
    data.load_public("svhn", tmp_path)
    assert len(server[1].asked) == 2
    spoilt = files["test_32x32.mat"][:-1]
    server[1].files["/test_32x32.mat"] = spoilt
    (tmp_path / "svhn" / "test_32x32.mat").unlink()
    with pytest.raises(DataError, match=f"has the SHA-256 {hashlib.sha256(spoilt).hexdigest()}"):
        data.load_public("svhn", tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not MATLAB at all", "is not a MATLAB 5 file that can be read"),
        (cropped(*digits(10))[:-400], "is not a MATLAB 5 file that can be read"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM" + bytes(400), "is a MATLAB 7.3 file"),
        (mat_file(matrix("y", np.ones((4, 1), np.uint8))), r"has no X of uint8 \(32, 32, 3, n\), found none"),
        (mat_file(matrix("X", np.zeros((16, 16, 3, 2), np.uint8))), r"found uint8 \(16, 16, 3, 2\)"),
        (
            mat_file(matrix("X", np.zeros((32, 32, 3, 4), np.uint8)), matrix("y", np.ones((3, 1), np.uint8))),
            r"has 4 images, and y is uint8 \(3, 1\)",
        ),
        (
            mat_file(matrix("X", np.zeros((32, 32, 3, 2), np.uint8)), matrix("y", np.array([[10], [11]], np.uint8))),
            "has the label 11 at image 2; allowed are 1 to 9, and 10 for the digit 0",
        ),
    ],
)
def test_what_is_no_svhn_says_so(tmp_path: Path, raw, message) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(raw)
    with pytest.raises(DataError, match=f"'train_32x32.mat' {message}|{message}"):
        data.open(tmp_path)

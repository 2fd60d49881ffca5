"""CIFAR-10 and CIFAR-100 in the binary and the Python format, the latter without trusting its pickles.

References: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
A binary record is the label (CIFAR-100: coarse, then fine) and 3,072 bytes: red, green, blue planes of 32 x 32.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.source import Block, Source, resident
from convsmith.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = re.compile(r"(data_batch_\d+|test_batch|train|test)(\.bin)?|batches\.meta(\.txt)?|meta|fine_label_names\.txt")


def is_cifar(names: Collection[str]) -> bool:
    """Tell whether these file names are those of a CIFAR folder."""
    has = set(names).__contains__
    pairs = (("train", "meta"), ("train.bin", "test.bin"))
    return has("data_batch_1") or has("data_batch_1.bin") or any(has(first) and has(second) for first, second in pairs)


def is_cifar_file(name: str) -> bool:
    return FILES.fullmatch(name) is not None


def open_cifar(name: str, origin: str, files: Mapping[str, bytes]) -> Source:
    """Open the files of a CIFAR folder, told apart by their names; batches that are shorter than the official ones are fine."""
    binary = any(file.endswith(".bin") for file in files)
    hundred = "train" in files or "train.bin" in files
    blocks = []
    for file in sorted(files, key=lambda file: ("test" in file, len(file), file)):
        if not file.startswith(("data_batch", "test", "train")):
            continue
        read = _read_binary if binary else _read_pickle
        pixels, labels = read(file, files[file], hundred)
        images = np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        blocks.append((file, 2 if "test" in file else 0, images, labels.astype(np.int64)))
    return resident(name, origin, _class_names(files, hundred, blocks), blocks)


def _read_binary(name: str, raw: bytes, hundred: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    heads = 2 if hundred else 1
    if not raw or len(raw) % (heads + PIXELS):
        kind = "CIFAR-100" if hundred else "CIFAR-10"
        raise DataError(f"{name!r} has {len(raw)} bytes, not a multiple of {heads + PIXELS}; it is truncated or not {kind}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, heads + PIXELS)
    return records[:, heads:], records[:, heads - 1]


def _read_pickle(name: str, raw: bytes, hundred: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    table = safe_unpickle(name, raw)
    data, labels = table.get(b"data"), table.get(b"fine_labels" if hundred else b"labels")
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == PIXELS):
        raise DataError(f"{name!r} has no b'data' of uint8 (n, {PIXELS}); it is not a CIFAR batch")
    if not (isinstance(labels, list) and all(isinstance(label, int) for label in labels)):
        raise DataError(f"{name!r} has no list of labels; it is not a CIFAR batch")
    return data, np.array(labels, np.int64)


class _Restricted(pickle.Unpickler):
    """Builds containers, numbers, strings and uint8 arrays; anything else is refused, so no code in a pickle ever runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _byte_type
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _empty_array(*_: object) -> NDArray[np.uint8]:
    return np.empty(0, np.uint8)


def _byte_type(code: str | bytes, *_: object) -> np.dtype[np.uint8]:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it asks for arrays of {code!r}")
    return np.dtype(np.uint8)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def safe_unpickle(name: str, raw: bytes) -> dict[Any, Any]:
    """Unpickle a CIFAR dictionary.

    Raises: DataError when the pickle is damaged or asks for anything but plain values and uint8 arrays.
    """
    try:
        table = _Restricted(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{name!r} is not a CIFAR pickle that is safe to read ({error})") from error
    if not isinstance(table, dict):
        raise DataError(f"{name!r} holds a {type(table).__name__}, not the dictionary of a CIFAR batch")
    return table


def _class_names(files: Mapping[str, bytes], hundred: bool, blocks: Sequence[Block]) -> list[str]:
    listed = files.get("fine_label_names.txt" if hundred else "batches.meta.txt")
    if listed is not None:
        return [line.strip() for line in listed.decode("utf-8", "replace").splitlines() if line.strip()]
    meta = files.get("meta" if hundred else "batches.meta")
    if meta is not None:
        names = safe_unpickle("meta", meta).get(b"fine_label_names" if hundred else b"label_names", [])
        return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
    if not hundred:
        return list(CIFAR10)
    return [str(number) for number in range(max(int(labels.max()) + 1 for *_, labels in blocks))]

"""Street View House Numbers: cropped digits of 32 x 32 pixels in MATLAB 5 files.

References: Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011;
http://ufldl.stanford.edu/housenumbers. A file has ``X`` of uint8 (32, 32, 3, n) and ``y`` of (n, 1), in which 10 is the digit 0.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.data.source import Source, resident
from convsmith.errors import DataError

PARTS: Final = {"train_32x32.mat": 0, "extra_32x32.mat": 0, "test_32x32.mat": 2}
"""The published files and the part that each belongs to; ``extra`` are easier images to train on as well."""

DIGITS: Final = tuple("0123456789")
ZERO: Final = 10


def is_svhn(names: Collection[str]) -> bool:
    """Tell whether these file names are those of an SVHN folder."""
    return any(name in names for name in PARTS)


def open_svhn(name: str, folder: Path) -> Source:
    """Open the files that a folder has of the three."""
    blocks = [(file, part, *read_cropped(folder / file)) for file, part in PARTS.items() if (folder / file).is_file()]
    return resident(name, str(folder), list(DIGITS), blocks)


def read_cropped(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images (n, 32, 32, 3) and digits 0 to 9 of one file.

    Raises: DataError for a file that is damaged, of MATLAB 7.3 (HDF5), or without images and labels of these shapes.
    """
    held = _variables(path)
    images, labels = held.get("X"), held.get("y")
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[:3] == (32, 32, 3)):
        raise DataError(f"{path.name!r} has no X of uint8 (32, 32, 3, n), found {_shape(images)}; it is not a file of cropped digits")
    if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "uif" and labels.size == images.shape[3]):
        raise DataError(f"{path.name!r} has {images.shape[3]} images, and y is {_shape(labels)}; it is truncated or not SVHN")
    numbers = labels.reshape(-1)
    wrong = np.flatnonzero(~np.isin(numbers, np.arange(1, ZERO + 1)))
    if len(wrong):
        raise DataError(
            f"{path.name!r} has the label {numbers[wrong[0]]} at image {wrong[0] + 1}; allowed are 1 to 9, and 10 for the digit 0"
        )
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), numbers.astype(np.int64) % ZERO


def _variables(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        found: dict[str, Any] = loadmat(path, variable_names=("X", "y"))
    except NotImplementedError as error:
        raise DataError(
            f"{path.name!r} is a MATLAB 7.3 file; the published one is of MATLAB 5: fetch it again, or save it with -v7"
        ) from error
    except Exception as error:  # a damaged file raises almost anything
        raise DataError(f"{path.name!r} is not a MATLAB 5 file that can be read ({error}); fetch it again") from error
    return found


def _shape(found: object) -> str:
    return f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "none"

"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convsmith.data.source import FREE, Source, resident
from convsmith.errors import ResourceError


def open_digits() -> Source:
    """Open the digits; their values 0..16 become 0..255.

    The file is read in place, because importing scikit-learn takes a second.

    References: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (test part).
    """
    table = _digits_table()
    values, labels = table[:, :64], table[:, 64]
    images = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return resident("digits", "digits (scikit-learn)", tuple("0123456789"), [("digits", FREE, images, labels.astype(np.int64))])


def _digits_table() -> NDArray[np.float64]:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ResourceError("the digits come with scikit-learn, which is not installed; pip install scikit-learn")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise ResourceError(f"scikit-learn's file of digits is missing ({path}); install scikit-learn again")
    with gzip.open(path, "rt", encoding="ascii") as lines:
        return np.loadtxt(lines, delimiter=",")

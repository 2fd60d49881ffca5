"""Scores of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[Any]:
    """Return the softmax of each row at a temperature, in the type of the logits; no rows give none."""
    tempered = logits * logits.dtype.type(1 / temperature)
    powers = np.exp(tempered - tempered.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

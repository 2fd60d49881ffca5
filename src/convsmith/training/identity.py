"""What makes two runs the same run: settings, images, input size."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import numpy as np

from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.training.config import Training

MAY_CHANGE: Final = frozenset({"checkpoint_s", "workers", "resident", "time_s"})
"""Settings that do not change what an update computes."""


def identity(config: Training, split: Split, preprocess: Preprocess) -> dict[str, Any]:
    """Return the settings, a digest of the labels in their order, and the preprocessing, as plain JSON values."""
    labels = hashlib.sha256(np.ascontiguousarray(split.labels, np.int64).tobytes()).hexdigest()
    fields = {"config": config.model_dump(mode="json"), "labels": labels, "preprocess": preprocess.to_dict()}
    return dict(json.loads(json.dumps(fields)))


def require_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run under other settings or with other images.

    Raises: UsageError naming the first difference.
    """
    # settings that the version which began the run did not have yet count as their defaults
    begun = Training.model_validate(before["config"]).model_dump(mode="json")
    for key, value in now["config"].items():
        was = begun.get(key)
        if key not in MAY_CHANGE and was != value:
            raise UsageError(f"the run to resume has {key}={was!r}, now it is {value!r}; resume with the same, or start a new run")
    if before["labels"] != now["labels"]:
        raise UsageError("the run to resume was trained on other images or another split; resume with the same, or start a new run")
    if before["preprocess"] != now["preprocess"]:
        raise UsageError(f"the run to resume reads its images by {before['preprocess']}; resume with the same, or start a new run")

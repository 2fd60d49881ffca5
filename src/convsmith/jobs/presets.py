"""Named starting points for a verb: a few settings each, which a file, ``--set`` or a flag overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convsmith.errors import UsageError, near

PRESETS: dict[str, dict[str, Mapping[str, Any]]] = {
    "train": {
        "quick": {"time": 60},
        "repeatable": {"deterministic": True, "threads": 1},
        "balanced": {"training": {"class_weights": "balanced"}},
    },
}
PRESETS["forge"] = PRESETS["train"]


def find(verb: str, name: str) -> Mapping[str, Any]:
    """Return the settings of a preset; `UsageError` with the nearest name."""
    known = PRESETS.get(verb, {})
    if name not in known:
        allowed = ", ".join(known) or "none for this verb"
        raise UsageError(f"--preset {name} is not known; there are: {allowed}.{near(name, known)}")
    return known[name]

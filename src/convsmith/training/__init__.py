"""Training: one call from a network and labelled images to a trained network. torch is loaded only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convsmith.training.config import Augment, Schedule, Training

if TYPE_CHECKING:
    from convsmith.training.batch_finder import BatchSearch, find_batch
    from convsmith.training.choice import choose
    from convsmith.training.explanation import Explanation, explain
    from convsmith.training.loop import fit
    from convsmith.training.quoting import Quote, quote
    from convsmith.training.rate_finder import RateSearch, find_rate
    from convsmith.training.results import Fit
    from convsmith.training.scoring import score

__all__ = [
    "Augment",
    "BatchSearch",
    "Explanation",
    "Fit",
    "Quote",
    "RateSearch",
    "Schedule",
    "Training",
    "choose",
    "explain",
    "find_batch",
    "find_rate",
    "fit",
    "quote",
    "score",
]

# loaded when used: the settings alone must come without torch and NumPy
_WHEN_USED = {
    "choose": "convsmith.training.choice",
    "explain": "convsmith.training.explanation",
    "Explanation": "convsmith.training.explanation",
    "BatchSearch": "convsmith.training.batch_finder",
    "find_batch": "convsmith.training.batch_finder",
    "RateSearch": "convsmith.training.rate_finder",
    "find_rate": "convsmith.training.rate_finder",
    "fit": "convsmith.training.loop",
    "Fit": "convsmith.training.results",
    "quote": "convsmith.training.quoting",
    "Quote": "convsmith.training.quoting",
    "score": "convsmith.training.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHEN_USED[name]), name)

"""A trained network that teaches another: whose answers a training compares with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import trained

if TYPE_CHECKING:
    from torch import nn

    from convsmith.jobs.preparation import Prepared

SETTINGS: Final[dict[str, Any]] = {"distil": 1.0, "temperature": 1.0}
"""The teacher's answers in the place of the labels, as they are (Liu et al. 2020, arXiv 2003.03488, equation 5)."""


def teacher(run: Path | None, prepared: Prepared) -> nn.Module | None:
    """Return the network of a run to learn from, None without one.

    Raises: UsageError where it was trained on other classes, or reads its images in another way.
    """
    if run is None:
        return None
    found = trained.load(runs.open(run))
    if list(found.classes) != list(prepared.dataset.classes):
        raise UsageError(
            f"the teacher {str(run)!r} tells {_some(found.classes)} apart, these images are of {_some(prepared.dataset.classes)}; "
            "name a run on the same classes"
        )
    if found.preprocess != prepared.preprocess:
        raise UsageError(
            f"the teacher {str(run)!r} reads {found.preprocess}, this training {prepared.preprocess}; "
            "name a run whose images are prepared alike, for example with the same --size"
        )
    return found.module


def _some(classes: Any) -> str:
    return ", ".join(map(str, list(classes)[:5])) + (" ..." if len(classes) > 5 else "")

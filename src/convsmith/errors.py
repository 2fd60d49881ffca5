"""Every error Convsmith raises on purpose, and the exit code each one means on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConvsmithError(Exception):
    """Base of all errors raised on purpose; the message says what was given, what is allowed and what to do."""

    exit_code = 1


class UsageError(ConvsmithError):
    """An argument, configuration, format or plan that cannot be (yours to change)."""

    exit_code = 2


class DivergenceError(UsageError):
    """A training whose loss is no longer a number: settings that cannot be, and in a comparison of settings a result."""


class UnsupportedError(ConvsmithError):
    """A valid request that Convsmith cannot serve yet (ours to change), for example an unknown ONNX operator."""

    exit_code = 2


class DataError(ConvsmithError):
    """Images, labels or files that cannot be used as they are."""

    exit_code = 3


class ParityError(ConvsmithError):
    """An exported file that does not predict what the trained network predicts."""

    exit_code = 3


class ResourceError(ConvsmithError):
    """Disk, memory, permission or time that ran out."""

    exit_code = 4


def near(given: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` when an allowed name is close to the given one, else ``""``."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""

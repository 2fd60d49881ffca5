"""What is not there, said so that an answer can be 404."""

from __future__ import annotations

from convsmith.errors import UsageError


class NotFound(UsageError):
    """A run, job, image or page that is not there."""

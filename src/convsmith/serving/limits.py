"""What a server takes: sizes, counts and seconds, each with a reason to be there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Beyond any of these a request is answered with an error, or a connection closed.

    ``head_s``, ``idle_s``: seconds for a request's head once it began, and between requests. A body has ``head_s`` and the time it
    takes at ``least_bytes_per_s``. ``write_s``: for a client to take its answer. ``answer_s``: from the last byte of a request to its
    answer; a worker that takes longer is killed. ``grace_s``: for accepted requests when the server is asked to stop.
    """

    head_bytes: int = 16_384
    body_bytes: int = 16_000_000
    pixels: int = 50_000_000
    images: int = 64
    waiting: int = 1_024
    waiting_bytes: int = 256_000_000
    connections: int = 1_000
    head_s: float = 10.0
    idle_s: float = 75.0
    least_bytes_per_s: float = 10_000.0
    write_s: float = 10.0
    answer_s: float = 10.0
    grace_s: float = 10.0


@dataclass(frozen=True)
class Batching:
    """``most``: images one worker takes at once. ``wait_s``: how long an idle worker waits for more than it has."""

    most: int = 16
    wait_s: float = 0.0

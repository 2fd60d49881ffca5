"""Which stream of random bits a rounding draws from: a number for (tensor, step, call)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

_MASK: Final = (1 << 64) - 1


@dataclass
class Moment:
    """Where a run is: updates done, forward passes since the last, whether it trains, in which process of how many.

    Every rounding is keyed by it.
    """

    seed: int = 0
    step: int = 0
    call: int = 0
    training: bool = True
    process: int = 0
    processes: int = 1


def tensor_key(layer: str, role: str, tensor: str) -> int:
    """Return the 64-bit number of a tensor: the same in every run and for every plan."""
    return int.from_bytes(hashlib.blake2b(f"{layer}\0{role}\0{tensor}".encode(), digest_size=8).digest(), "little")


def stream(tensor: int, moment: Moment, process: int = 0) -> int:
    """Return the stream of a tensor at a moment: the finaliser of splitmix64 (Steele, Lea, Flood 2014) of key, step, call and process."""
    x = tensor + 0x9E3779B97F4A7C15 * (moment.step + 1) + 0xD1B54A32D192ED03 * (2 * moment.call + moment.training)
    x = (x + 0xA24BAED4963EE407 * process) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)

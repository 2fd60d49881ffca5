"""What a run changes around itself and puts back: threads, determinism, torch's generator, Ctrl-C."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from convsmith.training.config import Training


class Interrupt:
    """Whether Ctrl-C was pressed; a second time it breaks at once."""

    pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C into a flag for the time of the block. In a thread that is not the main one signals stay as they are."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def settings(config: Training) -> Iterator[None]:
    """Set threads and determinism for the time of the block, and give torch's global generator back as it was."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    generator = torch.get_rng_state()
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)
        torch.set_rng_state(generator)


def trim_heap() -> None:
    """Give freed memory back to the system where the C library can; holes of a trial would else add to those of the training."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

"""Memory that is used again: never while any view of it lives, always once none does."""

from __future__ import annotations

import threading

import numpy as np
import torch

from convsmith.data.buffers import Buffers


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    buffers = Buffers()
    first = buffers.take((4, 8, 8, 3), np.uint8)
    first[:] = 7
    place = address(first)
    view, tensor = first[1:2, ::2].reshape(-1), torch.from_numpy(first)
    del first
    other = buffers.take((4, 8, 8, 3), np.uint8)
    other[:] = 9
    assert address(other) != place and (view == 7).all()
    del view
    third = buffers.take((4, 8, 8, 3), np.uint8)
    assert address(third) not in (place, address(other)) and bool((tensor == 7).all())
    del tensor, third
    again = {address(held) for held in [buffers.take((4, 8, 8, 3), np.uint8) for _ in range(2)]}
    assert place in again
    # of another type, the same bytes
    del other
    assert buffers.take((8, 24), np.float32).shape == (8, 24) and buffers.take((0, 3), np.float32).size == 0


def test_no_more_than_asked_are_kept_and_threads_get_their_own() -> None:
    buffers = Buffers(most=2)
    held = [buffers.take((1000,), np.float64) for _ in range(5)]
    assert len({address(array) for array in held}) == 5 and not any(address(array) % 64 for array in held)
    assert all(array.flags.writeable for array in held)
    del held
    assert len(buffers._free) == 2
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            mine = buffers.take((500,), np.int64)
            mine[:] = number
            if not (mine == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

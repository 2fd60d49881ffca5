"""Resampling equals Pillow's bilinear filter and the plain definition in every bit, at every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convsmith.errors import UsageError
from convsmith.kernels import instruction_sets
from convsmith.kernels.resampling import reference, resample

LEVELS = instruction_sets()


def pillow(picture: np.ndarray, box: np.ndarray, mirrored: bool, height: int, width: int) -> np.ndarray:
    top, left, bottom, right = box
    cut = picture[top:bottom, left:right]
    image = Image.fromarray(cut[:, :, 0] if cut.shape[2] == 1 else cut)
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(height, width, -1)
    return pixels[:, ::-1] if mirrored else pixels


def task(channels: int, seed: int, height: int, width: int):
    rng = np.random.default_rng(seed)
    pictures, boxes = [], []
    for _ in range(7):
        h, w = rng.integers(1, 90, 2)
        whole = rng.integers(0, 256, (h + 3, w + 5, channels), np.uint8)
        pictures.append(whole[2:, 1 : w + 2])  # rows apart from each other and not aligned
        top, left = rng.integers(0, h), rng.integers(0, w)
        boxes.append((top, left, rng.integers(top + 1, h + 1), rng.integers(left + 1, w + 1)))
    pictures.append(np.full((64, 40, channels), 255, np.uint8))
    boxes.append((0, 0, 64, 40))
    return pictures, np.array(boxes, np.int32), rng.integers(0, 2, 8).astype(bool), (height, width)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (17, 16), (33, 49), (64, 31)])
def test_bytes_equal_pillow_bit_for_bit(level: str, channels: int, size: tuple[int, int]) -> None:
    pictures, boxes, mirrored, (height, width) = task(channels, size[0], *size)
    out = np.full((8, height, width, channels), 77, np.uint8)
    resample(pictures, boxes, mirrored, out, level=level)
    for place in range(8):
        expected = pillow(pictures[place], boxes[place], mirrored[place], height, width)
        assert (out[place] == expected).all(), place


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_floats_are_the_bytes_times_scale_plus_shift(level: str, channels: int, channels_last: bool) -> None:
    pictures, boxes, mirrored, (height, width) = task(channels, 5, 21, 37)
    affine = (np.float32([0.017, 0.018, 0.0175])[:channels], np.float32([-2.1, -2.0, -1.8])[:channels])
    shape = (8, height, width, channels) if channels_last else (8, channels, height, width)
    out, plain = np.full(shape, np.nan, np.float32), np.empty(shape, np.float32)
    resample(pictures, boxes, mirrored, out, affine, channels_last=channels_last, level=level)
    reference(pictures, boxes, mirrored.astype(np.uint8), plain, affine, channels_last=channels_last)
    assert (out == plain).all()


def test_threads_change_nothing_and_the_last_row_is_read_no_further_than_it_is() -> None:
    rng = np.random.default_rng(0)
    pictures = [np.frombuffer(rng.bytes(30 * 23 * 3), np.uint8).reshape(30, 23, 3) for _ in range(20)]
    boxes = np.tile(np.int32([0, 0, 30, 23]), (20, 1))
    results = []
    for threads in (1, 2, 3):
        out = np.empty((20, 19, 16, 3), np.uint8)
        resample(pictures, boxes, np.arange(20) % 2 == 0, out, threads=threads)
        results.append(out)
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


def test_what_does_not_fit_is_refused() -> None:
    picture, out = np.zeros((4, 5, 3), np.uint8), np.empty((1, 2, 2, 3), np.uint8)
    flag = np.zeros(1, bool)
    for box in ((0, 0, 5, 5), (2, 0, 2, 5), (-1, 0, 4, 5)):
        with pytest.raises(UsageError, match="a box is empty or not inside its picture"):
            resample([picture], np.int32([box]), flag, out)
    with pytest.raises(UsageError, match="another number of channels"):
        resample([picture[:, :, :1]], np.int32([[0, 0, 4, 5]]), flag, out)
    with pytest.raises(UsageError, match="another number of pictures"):
        resample([picture], np.int32([[0, 0, 4, 5]]), flag, np.empty((2, 2, 2, 3), np.uint8))
    with pytest.raises(UsageError, match="one box and one flag"):
        resample([picture, picture], np.int32([[0, 0, 4, 5]]), flag, out)

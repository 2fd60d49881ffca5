"""A convolution of signs bound to its memory: the same bits as the checked call, of whatever its input holds when it runs."""

from __future__ import annotations

import numpy as np
import pytest

from convsmith.kernels import binary, convolution_shape, instruction_sets
from convsmith.kernels.binary_convolution import bind_convolution, convolve_signs, pack_groups, prepare_convolution


@pytest.mark.parametrize(("channels", "side", "threads"), [(65, 5, 1), (128, 14, 2), (64, 7, 2)])
@pytest.mark.parametrize("level", instruction_sets())
def test_a_bound_convolution_follows_its_input(level: str, channels: int, side: int, threads: int) -> None:
    rng = np.random.default_rng(side)
    w = rng.normal(size=(channels, channels, 3, 3)).astype(np.float32)
    images = [pack_groups(rng.normal(size=(1, side, side, channels)).astype(np.float32)) for _ in range(2)]
    shape = convolution_shape((1, channels, side, side), w.shape, {"pads": (1, 1, 1, 1)})
    weights = prepare_convolution(w, shape, level=level)
    thresholds = binary.Thresholds(np.ones(channels, np.int32), rng.integers(-20, 20, channels).astype(np.int32))
    held = pack_groups(np.ones((1, side, side, channels), np.float32))
    run = bind_convolution(held, weights, shape, thresholds, threads=threads)
    for image in images:
        held.words[...] = image.words
        expected = convolve_signs(image, weights, shape, thresholds=thresholds, threads=threads)
        assert np.array_equal(run().words, expected.words)

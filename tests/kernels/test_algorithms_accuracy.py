"""The stated accuracy of each algorithm on layers like those of VGG-19: weights of deviation sqrt(2 / products), inputs after a ReLU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convsmith.kernels import ALGORITHMS, convolution_shape, instruction_sets, native
from convsmith.kernels.algorithms import FAST

LAYERS = [(64, 64, 48), (256, 128, 28), (512, 256, 14), (512, 96, 7)]
"""Input channels, output channels, pixels of a side; fewer outputs than the network's, which the error does not depend on."""


def relative_error(name: str, channels: int, outputs: int, side: int, kernel: tuple[int, int]) -> float:
    """Return the largest error against float64, relative to the largest output."""
    generator = np.random.default_rng(channels + side)
    x = np.maximum(generator.normal(size=(1, side, side, channels)), 0).astype(np.float32)
    products = channels * kernel[0] * kernel[1]
    w = generator.normal(scale=np.sqrt(2 / products), size=(outputs, channels, *kernel)).astype(np.float32)
    pads = (kernel[0] // 2, kernel[1] // 2)
    shape = convolution_shape((1, channels, side, side), w.shape, {"pads": pads * 2})
    y = native.run_nhwc(name, x, native.prepare(name, w, shape), shape)
    doubles = (torch.tensor(np.ascontiguousarray(a), dtype=torch.float64) for a in (x.transpose(0, 3, 1, 2), w))
    exact = torch.nn.functional.conv2d(*doubles, None, 1, pads).numpy().transpose(0, 2, 3, 1)
    return float(np.max(np.abs(y - exact)) / np.max(np.abs(exact)))


def kernel_of(name: str) -> tuple[int, int]:
    """Return the kernel to test with: that of the form, for one in parts a kernel of almost two by two of them."""
    if name in ("gemm", "strassen"):
        return 3, 3
    if name.startswith("fft"):
        return (7, 8) if name == "fft_16x16" else (11, 15)
    high, wide = (int(side) for side in name.split("_")[2].split("x"))
    return (2 * high - 1, 2 * wide - 1) if name.endswith("parts") else (high, wide)


@pytest.mark.parametrize("level", instruction_sets()[1:])
@pytest.mark.parametrize("name", ["gemm", *FAST])
def test_error_relative_to_the_largest_output(name: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_ISA", level)
    worst = max(relative_error(name, *layer, kernel_of(name)) for layer in LAYERS)
    limit = ALGORITHMS[name].accuracy
    assert limit / 40 < worst <= limit, f"{worst:.2g}"  # a limit far above the error would tell nothing


def test_stored_and_fresh_transformed_weights_give_the_same_bits() -> None:
    """Two images of one size differ from one: a layer above 16 MiB of transformed weights transforms them on the way."""
    generator = np.random.default_rng(9)
    x, w = (generator.normal(size=size).astype(np.float32) for size in ((1, 6, 7, 512), (260, 512, 3, 3)))
    small, large = (convolution_shape((1, 512, 6, 7), (k, 512, 3, 3), {"pads": (1, 1, 1, 1)}) for k in (96, 260))
    name = "winograd_4x4_3x3"
    prepared = native.prepare(name, w, large)
    assert prepared.values.size < 10 * 512 * 272 < native.prepare(name, w[:96], small).values.size
    y = native.run_nhwc(name, x, prepared, large)
    np.testing.assert_array_equal(y[..., :96], native.run_nhwc(name, x, native.prepare(name, w[:96], small), small))

"""Convolutions a band of lines at a time: the same bits as one after the other, and less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import _native, compiler, models
from convsmith.compiler import bands
from convsmith.compiler.profiling import profile
from convsmith.interop import pytorch
from convsmith.kernels import instruction_sets, native


class Block(nn.Module):
    """Widen, filter each channel, narrow; with a residual where shapes allow."""

    def __init__(self, first: nn.Module, wide: int, narrow: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> None:
        super().__init__()
        self.first, self.filter = first, nn.Conv2d(wide, wide, kernel, stride, pad, dilation, wide)
        self.last = nn.Conv2d(wide, narrow, 1)
        self.residual = isinstance(first, nn.Conv2d) and first.in_channels == narrow and stride == 1 and 2 * pad == dilation * (kernel - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(nn.functional.hardswish(self.filter(nn.functional.relu6(self.first(x)))))
        return x + y if self.residual else y


CASES = {
    "mobilenet": (lambda: Block(nn.Conv2d(8, 40, 1), 40, 8, 3, 1, 1), (8, 23, 17)),
    "stride": (lambda: Block(nn.Conv2d(8, 33, 1), 33, 12, 3, 2, 1), (8, 21, 18)),
    "large_kernel": (lambda: Block(nn.Conv2d(16, 48, 1, bias=False), 48, 7, 5, 1, 2), (16, 19, 9)),
    "dilated_without_padding": (lambda: Block(nn.Conv2d(5, 20, 1), 20, 6, 3, 1, 0, 2), (5, 16, 16)),
    "first_layer": (lambda: Block(nn.Conv2d(3, 16, 3, 2, 1), 16, 24, 3, 1, 1), (3, 41, 30)),
    "filter_and_narrow": (lambda: Block(nn.Identity(), 24, 8, 3, 1, 1), (24, 20, 11)),
    "first_layer_and_pooling": (lambda: nn.Sequential(nn.Conv2d(3, 20, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), (3, 37, 30)),
    "pooling_beyond_the_image": (lambda: nn.Sequential(nn.Conv2d(3, 20, 3), nn.MaxPool2d(3, 2, ceil_mode=True)), (3, 30, 26)),
    "widen_and_filter": (lambda: nn.Sequential(nn.Conv2d(6, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 2, 1, groups=24)), (6, 26, 15)),
}


def steps_of(program: compiler.Program, shape: tuple[int, ...]) -> list[str]:
    return [step.kind for step in program.executable(shape).steps]


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Bands of few lines, however small the images."""
    monkeypatch.setattr(bands, "LEAST_BYTES", 0)
    monkeypatch.setattr(native, "second_cache", lambda: 32 << 10)
    monkeypatch.setattr("convsmith.compiler.choices.ALONE_OPERATIONS", 0)
    return monkeypatch


@pytest.mark.parametrize("level", instruction_sets())
@pytest.mark.parametrize("name", CASES)
def test_bands_give_the_same_bits(small_cache: pytest.MonkeyPatch, name: str, level: str) -> None:
    small_cache.setenv("CONVSMITH_ISA", level)
    torch.manual_seed(0)
    build, size = CASES[name]
    module = build().eval()
    graph = pytorch.read(module, (1, *size))
    for batch, threads in ((1, 1), (3, 2)):
        x = np.random.default_rng(batch).standard_normal((batch, *size), np.float32)
        banded, plain = (compiler.build(graph, threads=threads) for _ in range(2))
        assert "band" in steps_of(banded, x.shape) or level == "reference"
        with small_cache.context() as apart:
            apart.setattr(bands, "LEAST_BYTES", 1 << 60)
            assert "band" not in steps_of(plain, x.shape)
        y = banded(x)
        np.testing.assert_array_equal(y, plain(x))
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        # float32 sums in another order
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_a_band_ends_where_another_reads() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(4, 16, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = self.a(x)
            return self.c(self.b(wide)) + wide.mean()

    graph = pytorch.read(Branches().eval(), (1, 4, 300, 300))
    program = compiler.build(graph, threads=1)
    banded = [step for step in program.executable((4, 4, 300, 300)).steps if step.kind == "band"]
    # the widened image is read twice: only filter and narrowing are joined
    assert [len(step.joined) for step in banded] == [2]


def test_bands_take_less_memory_and_their_time_is_shared_out(small_cache: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = models.load("mobilenet_v2", classes=10, input_size=(96, 96)).eval()
    graph = pytorch.read(module, (1, 3, 96, 96))
    small_cache.setattr(native, "second_cache", lambda: 256 << 10)
    banded = compiler.build(graph, threads=1)
    count = steps_of(banded, (2, 3, 96, 96)).count("band")
    with small_cache.context() as apart:
        apart.setattr(bands, "LEAST_BYTES", 1 << 60)
        plain = compiler.build(graph, threads=1)
        larger = plain.executable((2, 3, 96, 96)).arena.size
    assert count >= 10 and banded.executable((2, 3, 96, 96)).arena.size < larger
    found = profile(banded, (2, 3, 96, 96), rounds=5, budget_s=0.1)
    nodes = {step.node for step in plain.executable((2, 3, 96, 96)).steps}
    assert set(found.seconds) == nodes and all(seconds > 0 for seconds in found.seconds.values())
    assert " band of " in banded.describe((2, 3, 96, 96))


def test_broken_bands_are_refused() -> None:
    def add(stages: int, names: str, count: int, follows: bool = True) -> None:
        program = _native.Program(native.instruction_set(), 1 << 12, [64], [64])
        program.constant(np.zeros(64, np.float32))
        one = [1, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 4, 4 if follows else 3, 4, 4, 0, 0, 64]
        places = [(3, 0, 0), (2, 0, 0), *[(1, 0, 0), (4, 0, 0), (4, 0, 0)] * count, (0, 0, 0)]
        program.add("band", names, places, [stages, 2, 0, *one * count], [0.0, 0.0] * count, 1)

    add(2, "gemm gemm", 2)
    for arguments, message in (
        ((1, "gemm", 1), "a band has 2 to 4 convolutions"),
        ((2, "gemm", 2), "no algorithm"),
        ((2, "gemm gemm", 2, False), "do not follow each other"),
        ((2, "gemm depthwise", 2), "depthwise does not support this convolution"),
        ((3, "gemm gemm gemm", 2), "another number of"),
    ):
        with pytest.raises(ValueError, match=message):
            add(*arguments)

"""Sizes, layouts, types, scales, threads and a missing native module: what goes in and comes out of array rounding."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from convsmith import _native, formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format, rounding

FP16, INT8, E4M3 = (formats.CATALOGUE[name] for name in ("fp16", "int8", "e4m3fn"))
F32 = NDArray[np.float32]


def noise(*shape: int) -> F32:
    return (np.random.default_rng(4).normal(size=shape) * 50).astype(np.float32)


def assert_same(got: F32, want: F32) -> None:
    assert got.dtype == np.float32 and got.shape == want.shape
    np.testing.assert_array_equal(np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(want).view(np.uint32))


@pytest.mark.parametrize("level", _native.levels())
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 63, 64, 65, 1_000_003])
def test_odd_sizes_write_every_element_and_no_other(size: int, level: str) -> None:
    x = noise(size)
    for fmt, mode in ((E4M3, "stochastic"), (INT8, "nearest_even")):
        padded = np.full(size + 64, np.nan, np.float32)
        got = formats.round_array(x, fmt, mode, out=padded[32 : 32 + size], isa=level, threads=2)  # type: ignore[arg-type]
        assert_same(got, formats.round_numpy(x, fmt, mode))  # type: ignore[arg-type]
        assert np.isnan(padded[:32]).all() and np.isnan(padded[32 + size :]).all()


@pytest.mark.parametrize("level", _native.levels())
def test_misaligned_views(level: str) -> None:
    raw = np.zeros(4 * 1000 + 1, np.uint8)
    x = raw[1:].view(np.float32)
    assert not x.flags.aligned
    x[:] = noise(1000)
    want = formats.round_numpy(x, FP16)
    assert_same(formats.round_array(x, FP16, isa=level), want)
    out = np.zeros(4 * 1000 + 1, np.uint8)[1:].view(np.float32)
    assert_same(formats.round_array(x, FP16, out=out, isa=level), want)
    assert_same(formats.round_array(noise(1001)[1:], FP16, isa=level), formats.round_numpy(noise(1001)[1:], FP16))


def test_layouts_count_elements_in_c_order() -> None:
    x = noise(6, 7, 8)
    want = formats.round_numpy(x, E4M3, "stochastic", seed=1)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1)
    reversed_twice = x[::-1, ::-1].copy()[::-1, ::-1]
    for view in (np.asfortranarray(x), channels_last, reversed_twice):
        assert not view.flags.c_contiguous
        assert_same(formats.round_array(view, E4M3, "stochastic", seed=1), want)
    assert_same(formats.round_array(np.float32(1.2345), E4M3), np.array(1.25, np.float32))
    assert_same(formats.round_array(np.zeros((3, 0), np.float32), E4M3), np.zeros((3, 0), np.float32))


def test_results_in_place_in_strides_and_overlapping() -> None:
    x = noise(4, 50)
    want = formats.round_numpy(x, FP16)
    place = x.copy()
    assert formats.round_array(place, FP16, out=place) is place
    assert_same(place, want)
    wide = np.zeros((4, 100), np.float32)
    formats.round_array(x, FP16, out=wide[:, ::2])
    assert_same(wide[:, ::2], want)
    assert not wide[:, 1::2].any()
    line = noise(1000)
    shifted = formats.round_numpy(line[:-1], FP16)
    formats.round_array(line[:-1], FP16, out=line[1:])
    assert_same(line[1:], shifted)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.bool_])
def test_other_types_are_rounded_from_their_exact_values(dtype: type) -> None:
    x = np.array([0, 1, 3, 100, 127]).astype(dtype)
    want = [formats.round_scalar(float(v), E4M3) for v in x]
    assert_same(formats.round_array(x, E4M3), np.array(want, np.float32))
    assert formats.round_array(2**24 + 1, Format.fixed(26, -1), "up").tolist() == 2**24 + 2
    assert formats.round_array([0.1, 2.6], INT8).tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(2, np.complex64), "Only real numbers can be rounded .* got an array of complex64"),
        (np.array(["1"]), "Only real numbers can be rounded"),
        (np.array([2**53 + 1]), r"Integers beyond 2\^53 cannot be rounded exactly; the array spans 9007199254740993 to"),
    ],
)
def test_what_cannot_be_rounded(x: NDArray[np.generic], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        formats.round_array(x, E4M3)


def test_outs_that_cannot_be() -> None:
    x = noise(3)
    locked = np.zeros(3, np.float32)
    locked.flags.writeable = False
    for out, message in (
        (np.zeros(3), r"out must be a writable float32 array of shape \(3,\); got float64 of shape \(3,\)"),
        (np.zeros(4, np.float32), r"got float32 of shape \(4,\)"),
        (locked, r"got float32 of shape \(3,\), read-only"),
    ):
        for function in (formats.round_array, formats.round_numpy):
            with pytest.raises(UsageError, match=message):
                function(x, FP16, out=out)  # type: ignore[arg-type]


def test_read_only_inputs() -> None:
    x = noise(10)
    x.flags.writeable = False
    assert_same(formats.round_array(x, FP16), formats.round_numpy(x, FP16))


@pytest.mark.parametrize("level", ["numpy", *_native.levels()])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 7, 33), 0), ((5, 7, 33), 1), ((5, 7, 33), 2), ((5, 7, 33), -1), ((300, 3), 1), ((1, 1), 0)]
)
def test_a_scale_for_each_index_of_an_axis(shape: tuple[int, ...], axis: int, level: str) -> None:
    # ONNX QuantizeLinear and DequantizeLinear: saturate(round(x / scale)) * scale in float32.
    x = noise(*shape)
    scale = np.random.default_rng(0).uniform(0.1, 3, shape[axis]).astype(np.float32)
    spread = scale.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    want = np.clip(np.rint(x / spread), -128, 127) * spread
    if level == "numpy":
        got = formats.round_numpy(x, INT8, scale=scale, axis=axis)
        drawn = formats.round_numpy(x, INT8, "stochastic", scale=scale, axis=axis)
    else:
        got = formats.round_array(x, INT8, scale=scale, axis=axis, isa=level)
        drawn = formats.round_array(x, INT8, "stochastic", scale=scale, axis=axis, isa=level)
    np.testing.assert_array_equal(got, want)
    assert_same(drawn, formats.round_numpy(x / spread, INT8, "stochastic") * spread)


def test_one_scale_for_all() -> None:
    x = noise(1000)
    np.testing.assert_array_equal(
        formats.round_array(x, INT8, scale=0.3), np.clip(np.rint(x / np.float32(0.3)), -128, 127) * np.float32(0.3)
    )
    assert_same(formats.round_array(x, E4M3, scale=0.25), formats.round_array(x * 4, E4M3) / 4)
    assert_same(formats.round_array(x.astype(np.float64), INT8, scale=0.5), formats.round_array(x, INT8, scale=0.5))


@pytest.mark.parametrize(
    ("scale", "axis", "message"),
    [
        (0.0, None, "Scales must be positive and finite in float32"),
        ([1.0, np.nan, 1.0], 0, "Scales must be positive and finite"),
        (1e-60, None, "Scales must be positive and finite"),
        ([1.0, 2.0], 0, r"got a scale of shape \(2,\) with axis=0 for an array of shape \(3, 4\)"),
        ([1.0, 2.0, 3.0], None, r"got a scale of shape \(3,\) with axis=None"),
        ([1.0, 2.0, 3.0], 5, r"got a scale of shape \(3,\) with axis=5"),
    ],
)
def test_scales_that_cannot_be(scale: object, axis: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        formats.round_array(noise(3, 4), INT8, scale=scale, axis=axis)  # type: ignore[arg-type]


def test_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _native.levels()[:2] == ["reference", "portable"]
    with pytest.raises(UnsupportedError, match=r"No instruction set 'avx51'.* This processor and build have: reference, portable"):
        formats.round_array(noise(3), FP16, isa="avx51")
    monkeypatch.setenv("CONVSMITH_ISA", "sse9")
    with pytest.raises(UnsupportedError, match="No instruction set 'sse9' here"):
        formats.round_array(noise(3), FP16)
    with pytest.raises(UsageError, match="threads must be at least 1; got 0"):
        formats.round_array(noise(3), FP16, isa="portable", threads=0)


def test_without_the_native_module_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "convsmith._native", None)
    assert_same(formats.round_array(noise(100), E4M3, "stochastic"), formats.round_numpy(noise(100), E4M3, "stochastic"))
    with pytest.raises(UnsupportedError, match=r"isa='avx2' asks for the native module convsmith\._native, which is not built here"):
        formats.round_array(noise(3), FP16, isa="avx2")


def test_number_of_threads_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CONVSMITH_THREADS", "")
    assert rounding.threads_by_default() == 3
    monkeypatch.setenv("CONVSMITH_THREADS", "5")
    assert rounding.threads_by_default() == 5
    monkeypatch.setenv("CONVSMITH_THREADS", "many")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert rounding.threads_by_default() == len(os.sched_getaffinity(0))


def test_callers_on_several_threads() -> None:
    x = noise(400_000)
    want = formats.round_numpy(x, E4M3, "stochastic")
    results: list[F32] = []

    def call() -> None:
        results.extend(formats.round_array(x, E4M3, "stochastic", threads=2) for _ in range(5))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 20
    for got in results:
        assert_same(got, want)


SUBNORMALS_FLUSHED = """
import numpy as np, torch
from convsmith import formats
x = np.full(200_000, 3e-39, np.float32)
want = formats.round_array(x, formats.CATALOGUE["bf16"], isa="reference")
torch.set_flush_denormal(True)
for level in ("portable", formats.rounding.native_module().levels()[-1]):
    for threads in (1, 2):
        got = formats.round_array(x, formats.CATALOGUE["bf16"], isa=level, threads=threads)
        assert (got.view(np.uint32) == want.view(np.uint32)).all() and got.view(np.uint32)[0] != 0, level
"""

AFTER_A_FORK = """
import os, warnings, numpy as np
warnings.simplefilter("ignore")
from convsmith import formats
x = np.ones(400_000, np.float32) / 3
def go():
    return formats.round_array(x, formats.CATALOGUE["fp16"], threads=2)
first = go()
child = os.fork()
if child == 0:
    os._exit(0 if (go() == first).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (go() == first).all()
"""


@pytest.mark.parametrize("script", [SUBNORMALS_FLUSHED, AFTER_A_FORK], ids=["flushed subnormals", "fork"])
def test_in_a_process_of_its_own(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

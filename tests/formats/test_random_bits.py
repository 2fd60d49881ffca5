"""The random words, and stochastic rounding over all of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convsmith import _native, formats
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.formats.random_bits import philox


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "words"),
    [
        # Random123 1.14, tests/kat_vectors, philox4x32.
        (7, (0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        (7, (0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (
            7,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
        ),
        (10, (0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ],
)
def test_philox_known_answers(rounds: int, counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    arrays = tuple(np.array([c], np.uint64) for c in counter)
    assert tuple(int(word[0]) for word in philox(arrays, key, rounds)) == words


def test_words_follow_the_documented_layout() -> None:
    seed, stream = 0xA4093822_00000001, 0x13198A2E_00000007
    words = formats.random_words(0, 200, seed, stream)
    for i in (0, 1, 15, 16, 63, 64, 199):
        counter = (16 * (i // 64) + i % 16, 0, stream & 0xFFFFFFFF, stream >> 32)
        answer = philox(tuple(np.array([c], np.uint64) for c in counter), (seed & 0xFFFFFFFF, seed >> 32))
        assert words[i] == answer[i % 64 // 16][0]


def test_words_do_not_depend_on_how_they_are_asked_for() -> None:
    whole = formats.random_words(0, 1000, 5, 6)
    for start, count in ((0, 1), (63, 2), (64, 64), (130, 0), (990, 10)):
        np.testing.assert_array_equal(formats.random_words(start, count, 5, 6), whole[start : start + count])
    far = (1 << 36) - 64
    assert np.unique(formats.random_words(far, 128, 5, 6)).size == 128


def test_seeds_and_streams_differ() -> None:
    base = formats.random_words(0, 256)
    for other in (formats.random_words(0, 256, seed=1), formats.random_words(0, 256, stream=1), formats.random_words(0, 256, seed=1 << 40)):
        assert (base != other).all()


@pytest.mark.parametrize(("name", "arguments"), [("seed", {"seed": -1}), ("stream", {"stream": 1 << 64})])
def test_keys_beyond_64_bits_are_refused(name: str, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=rf"{name} must be 0 to 2\^64 - 1; got"):
        formats.round_array(np.ones(3, np.float32), formats.CATALOGUE["fp16"], "stochastic", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "x"), [("e4m3fn", 1.09), ("e4m3fn", -0.0031), ("e4m3fn", 0.0001), ("int8", -3.3), ("q2.14", 0.3), ("e3m1:flush", 0.07)]
)
def test_over_all_random_bits_the_mean_is_the_number(text: str, x: float) -> None:
    # With r random bits the mean is the cut-off part floored to a multiple of 2^-r steps: it misses the number by less than that.
    fmt = formats.parse(text)
    low, high = sorted((formats.round_scalar(x, fmt, "up"), formats.round_scalar(x, fmt, "down")))
    for random_bits in (1, 4, 10):
        results = [formats.round_scalar(x, fmt, "stochastic", "saturate", r, random_bits) for r in range(1 << random_bits)]
        assert set(results) <= {low, high}
        mean = sum(map(Fraction, results)) / (1 << random_bits)
        missing = abs(Fraction(x)) - abs(mean)
        assert 0 <= missing < (Fraction(high) - Fraction(low)) / (1 << random_bits)


def test_a_representable_number_never_moves() -> None:
    fmt = formats.CATALOGUE["e4m3fn"]
    values = np.tile(formats.values(fmt), 50)
    np.testing.assert_array_equal(formats.round_array(values, fmt, "stochastic", seed=9), values)


@pytest.mark.parametrize("text", ["bf16", "e5m2", "q8.8", "int4"])
def test_long_mean_of_an_array(text: str) -> None:
    # n draws of a step-sized coin: the mean is within 5 standard errors, 5 * step / (2 sqrt n), of the number.
    fmt, x, n = formats.parse(text), 1.2345, 400_000
    low, high = formats.round_scalar(x, fmt, "down"), formats.round_scalar(x, fmt, "up")
    y = formats.round_array(np.full(n, x, np.float32), fmt, "stochastic", seed=3)
    assert abs(float(y.mean(dtype=np.float64)) - float(np.float32(x))) < 5 * (high - low) / 2 / n**0.5
    again = formats.round_array(np.full(n, x, np.float32), fmt, "stochastic", seed=3, stream=1)
    agree = (y == again).mean()
    share = (y == high).mean()
    assert abs(agree - (share**2 + (1 - share) ** 2)) < 0.01


@pytest.mark.parametrize("level", _native.levels())
@pytest.mark.parametrize("text", ["fp16", "q8.8"])
def test_the_same_bits_for_any_number_of_threads(text: str, level: str) -> None:
    fmt: Format = formats.parse(text)
    x = np.random.default_rng(0).normal(size=300_007).astype(np.float32)
    want = formats.round_numpy(x, fmt, "stochastic", seed=77, stream=5)
    for threads in (1, 2, 3, 8):
        got = formats.round_array(x, fmt, "stochastic", seed=77, stream=5, threads=threads, isa=level)
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))

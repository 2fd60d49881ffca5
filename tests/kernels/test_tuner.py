"""The tuner against simulated noise, and what it remembers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from convsmith.errors import UsageError
from convsmith.kernels import tuner, tuning_cache


def noisy(times: dict[str, float], seed: int, spread: float, interruptions: float) -> Callable[[str], float]:
    """A machine whose runs vary by ``spread`` and, now and then, take ten times as long."""
    generator = random.Random(seed)

    def measure(name: str) -> float:
        slow = 10.0 if generator.random() < interruptions else 1.0
        return times[name] * (1 + spread * generator.random()) * slow

    return measure


@pytest.mark.parametrize("seed", range(20))
def test_the_quickest_is_found_through_interruptions(seed: int) -> None:
    times = {"gemm": 1.0, "winograd": 0.8, "fft": 3.0}
    assert tuner.choose(list(times), noisy(times, seed, 0.1, 0.2), direct="gemm").chosen == "winograd"
    quiet = tuner.choose(list(times), noisy(times, seed, 0.1, 0.0), direct="gemm")
    assert quiet.chosen == "winograd" and quiet.clear and quiet.rounds == tuner.FEWEST_ROUNDS


@pytest.mark.parametrize("seed", range(50))
def test_never_more_than_three_percent_slower_than_direct(seed: int) -> None:
    generator = random.Random(seed)
    times = {"direct": 1.0, **{f"other {i}": generator.uniform(0.95, 1.3) for i in range(4)}}
    chosen = tuner.choose(list(times), noisy(times, seed, 0.05, 0.1), direct="direct").chosen
    assert times[chosen] <= 1.03


def test_candidates_take_turns_and_losers_leave_early() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return {"direct": 1.0, "fast": 0.999, "slow": 9.0}[name] * (1 + 0.1 * (len(calls) % 7))

    tuner.choose(["direct", "fast", "slow"], measure, direct="direct")
    assert calls[:6] == ["direct", "fast", "slow", "fast", "slow", "direct"]
    assert calls.count("slow") == tuner.FEWEST_ROUNDS
    assert calls.count("fast") == calls.count("direct") > tuner.FEWEST_ROUNDS


def test_time_is_kept() -> None:
    now = [0.0]

    def measure(name: str) -> float:
        now[0] += 1.0
        return {"direct": 1.0, "other": 1.0}[name] + now[0] % 3

    decision = tuner.choose(["direct", "other"], measure, direct="direct", limit_s=20.0, clock=lambda: now[0])
    assert now[0] <= 22 and decision.rounds == 10 and not decision.clear
    assert tuner.choose(["direct", "other"], measure, direct="direct", limit_s=0.0).chosen == "direct"


def test_direct_must_be_a_candidate() -> None:
    with pytest.raises(UsageError, match=r"the direct candidate 'gemm' is not among \['fft'\]"):
        tuner.choose(["fft"], lambda name: 1.0, direct="gemm")


def test_decisions_are_remembered_and_a_broken_file_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "tuning.json"
    monkeypatch.setenv("CONVSMITH_TUNING", str(path))
    assert tuning_cache.cache_path() == path and tuning_cache.recall() == {}
    name = tuning_cache.key("processor", "avx2", 2, "1.0", "conv 1")
    assert tuning_cache.remember({name: ["gemm", 2]}) and tuning_cache.remember({"other": ["fft", 1]})
    assert tuning_cache.recall() == {"processor | avx2 | 2 threads | 1.0 | conv 1": ["gemm", 2], "other": ["fft", 1]}
    for broken in ("{", "[]", '{"version": 1}', '{"version": 1, "decisions": {"a": 3}}', json.dumps({"version": 99, "decisions": {}})):
        path.write_text(broken)
        assert tuning_cache.recall() == {}
        assert tuning_cache.remember({name: ["gemm", 2]}) and tuning_cache.recall() == {name: ["gemm", 2]}
    assert [file.name for file in path.parent.iterdir()] == ["tuning.json"]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not tuning_cache.remember({"a": ["gemm", 1]}, tmp_path / "file" / "tuning.json")

"""Latency and throughput of several runtimes, measured in turn so that a busy machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph.network import Graph
from convsmith.targets.sessions import load, onnxruntime_run, openvino_run
from convsmith.targets.writers import network_bytes

Candidate = Callable[[NDArray[Any]], Any]
SAMPLE_S = 0.01  # a sample repeats its call until it lasts this long, so that the clock and one interrupt weigh little
PAUSE_S = 0.02  # before a sample: the waiting threads of the last runtime go to sleep, which else keep a processor from the next


def measure(
    candidates: Mapping[str, Candidate],
    make_input: Callable[[int], NDArray[Any]],
    *,
    batches: Sequence[int] = (1, 16),
    rounds: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Time every candidate on the same inputs, one sample each a round, the order turning by one each round.

    Returns one row for each batch and candidate: ``runtime, batch, median_ms, q1_ms, q3_ms, images_per_s, rounds, calls`` where the
    times are of one call. Candidates pin their own threads.

    Raises: ``UsageError`` for fewer than 7 rounds, which quartiles need, or no candidate.
    """
    if rounds < 7:
        raise UsageError(f"rounds is {rounds}; give at least 7, so that median and quartiles mean something")
    if not candidates or not batches or min(batches) < 1:
        raise UsageError(f"nothing to measure: {len(candidates)} candidates, batches {tuple(batches)}")
    rows = []
    for batch in batches:
        x = make_input(batch)
        calls = {name: _calls(run, x, clock) for name, run in candidates.items()}
        samples: dict[str, list[float]] = {name: [] for name in candidates}
        names = list(candidates)
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                samples[name].append(_sample(candidates[name], x, calls[name], clock))
        rows += [_row(name, batch, samples[name], calls[name]) for name in names]
    return rows


def bench(
    graph: Graph,
    path: Path | str,
    *,
    image_size: tuple[int, int],
    torch_run: Candidate | None = None,
    more: Mapping[str, Candidate] | None = None,
    threads: int = 1,
    batches: Sequence[int] = (1, 16),
    rounds: int = 9,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the bare network in torch (a function given by the caller), ONNX Runtime and OpenVINO, and the exported file.

    ``more``: other ways to run the bare network, by name. ``network`` rows read the same normalised float32 pixels; ``file`` rows go
    from uint8 images of ``image_size`` (height, width) to scores. ``notes`` says which runtime is missing.
    """
    session = load(path, runtime="onnxruntime", threads=threads)
    network = network_bytes(graph)
    rng = np.random.default_rng(seed)
    shape = (session.preprocess.channels, session.preprocess.height, session.preprocess.width)
    runs: dict[str, Candidate] = ({"torch": torch_run} if torch_run else {}) | dict(more or {})
    runs["onnxruntime"] = onnxruntime_run(network, threads)[0]
    whole: dict[str, Candidate] = {"onnxruntime": session.run}
    notes = [] if torch_run else ["torch was not measured"]
    try:
        runs["openvino"] = openvino_run(network, threads)[0]
        runs["openvino bf16"] = openvino_run(network, threads, "bf16")[0]
        whole["openvino"] = openvino_run(Path(path), threads)[0]
    except UnsupportedError as error:
        notes.append(str(error))
    timed = {"batches": batches, "rounds": rounds}
    pixels = (*image_size, session.preprocess.channels)
    return {
        "threads": threads,
        "input": list(shape),
        "image_size": list(image_size),
        "network": measure(runs, lambda n: rng.standard_normal((n, *shape), np.float32), **timed),  # type: ignore[arg-type]
        "file": measure(whole, lambda n: rng.integers(0, 256, (n, *pixels), np.uint8), **timed),  # type: ignore[arg-type]
        "notes": notes,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return measured rows as aligned text."""
    lines = [f"{'runtime':<16}{'batch':>6}{'median ms':>11}{'quartiles':>18}{'images/s':>11}"]
    for row in rows:
        quartiles = f"{row['q1_ms']:.2f} - {row['q3_ms']:.2f}"
        lines.append(f"{row['runtime']:<16}{row['batch']:>6}{row['median_ms']:>11.2f}{quartiles:>18}{row['images_per_s']:>11.0f}")
    return "\n".join(lines)


def _calls(run: Candidate, x: NDArray[Any], clock: Callable[[], float]) -> int:
    """Warm up, then return how many calls one sample needs."""
    run(x)
    start = clock()
    run(x)
    return max(1, min(1000, round(SAMPLE_S / max(clock() - start, 1e-6))))


def _sample(run: Candidate, x: NDArray[Any], calls: int, clock: Callable[[], float]) -> float:
    time.sleep(PAUSE_S)
    start = clock()
    for _ in range(calls):
        run(x)
    return (clock() - start) / calls


def _row(name: str, batch: int, seconds: list[float], calls: int) -> dict[str, Any]:
    q1, median, q3 = np.percentile(seconds, (25, 50, 75)).tolist()
    return {
        "runtime": name,
        "batch": batch,
        "median_ms": median * 1e3,
        "q1_ms": q1 * 1e3,
        "q3_ms": q3 * 1e3,
        "images_per_s": batch / median,
        "rounds": len(seconds),
        "calls": calls,
    }

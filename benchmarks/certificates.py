"""Claim: no proof is ever wrong, over images of MNIST and CIFAR-10, 20 plans and 5 orders; and most images get one.

Soundness: each plan is certified in one piece and computed in five orders of additions, one of them shuffled with another seed for each
plan; counted are proved images whose class differs, and differences of scores outside of their bounds. An adversary drives every channel
of integer layers to its largest partial sums, up and down, and a random search of codes and orders tries too: proved widths may never
overflow, and one bit less must. Usefulness, with ``--runs``: runs of `convsmith train`, operands in bf16 with float32 sums: shares
proved, median bound over the largest error of five orders, what intervals alone give, and time in forward passes of torch, interleaved.

Parts are kept in ``--state`` as JSON lines and left out when they are there: run it again to go on.
Results: docs/results/certificates.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from certified_nets import network, plans
from machine import RESULTS, footer

from convsmith import formats, precision, runs
from convsmith.graph import Graph
from convsmith.jobs import sources, trained
from convsmith.precision import Plan
from convsmith.precision.certificate import MACHINE_ORDERS, accumulator_widths, certify, compute, describe, overflows, worst_input
from convsmith.precision.certificate.enclosure import FAST
from convsmith.precision.certificate.proof import layer_bounds
from convsmith.precision.certificate.steps import walk

DATA = Path(os.environ.get("CONVSMITH_DATA", "."))
SOURCES = {"mnist": DATA / "data" / "mnist", "cifar10": DATA / "data" / "cifar10" / "original-4000"}


def soundness(graph: Graph, plan: Plan, x: np.ndarray, calibration: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the counts of one plan: images, proofs, classes that changed, bounds that did not hold, in every order."""
    setting = describe(graph, plan, calibration)
    begin = time.perf_counter()
    found = certify(setting, x, exact=True)
    row: dict[str, Any] = {
        "plan": plan.name,
        "images": len(x),
        "certain": int(found.certain.sum()),
        "likely": int(found.likely.sum()),
        "seconds": time.perf_counter() - begin,
        "changed": {},
        "changed_certain": 0,
        "changed_likely": 0,
        "outside": 0,
        "outside_likely": 0,
        "reasons": sorted({reason for reason in found.reasons if reason}),
    }
    largest = np.zeros(found.gaps.shape)
    for order in MACHINE_ORDERS:
        scores = np.concatenate([compute(setting, x[i : i + 500], order, seed=seed) for i in range(0, len(x), 500)]).astype(np.float64)
        changed = scores.argmax(1) != found.classes
        error = np.abs(scores[np.arange(len(x)), found.classes][:, None] - scores - found.gaps)
        row["changed"][order] = int(changed.sum())
        row["changed_certain"] += int((changed & found.certain).sum())
        row["changed_likely"] += int((changed & found.likely).sum())
        row["outside"] += int((error > found.bounds).sum())
        row["outside_likely"] += int((error > found.likely_bounds).sum())
        largest = np.maximum(largest, error)
    seen = (largest > 0) & np.isfinite(found.bounds)
    row["tightness"] = float(np.median(found.bounds[seen] / largest[seen])) if seen.any() else None
    return row


def overflow(graph: Graph, plan: Plan, calibration: np.ndarray, tries: int = 200) -> dict[str, Any]:
    """Attack every channel of every integer layer at its proved width, and at one bit less."""
    rng = np.random.default_rng(0)
    row = {"plan": plan.name, "channels": 0, "attacks": 0, "succeeded": 0, "one_bit_less": 0, "bits": [], "l1_bits": [], "type_bits": []}
    for w in accumulator_widths(graph, plan, calibration):
        low, high = w.inputs
        row["bits"].append(w.bits)
        row["l1_bits"].append(max(w.l1))
        row["type_bits"].append(w.by_type)
        for weights, bits in zip(w.weights, w.exact, strict=True):
            attacks = [worst_input(weights, w.inputs, positive=positive) for positive in (True, False)]
            row["one_bit_less"] += bits == 1 or any(overflows(weights, *attack, bits - 1) for attack in attacks)
            for _ in range(tries):
                codes = rng.integers(low, high + 1, len(weights))
                for _ in range(3):  # climb: a part of the codes goes to the end that helps
                    part = rng.random(len(weights)) < 0.3
                    codes = np.where(part, np.where(weights > 0, high, low), codes)
                    attacks.append((codes.tolist(), rng.permutation(len(weights)).tolist()))
            row["channels"] += 1
            row["attacks"] += len(attacks)
            row["succeeded"] += sum(_overflows(weights, codes, order, bits) for codes, order in attacks)
    return row


def _overflows(weights: np.ndarray, codes: list[int], order: list[int], bits: int) -> bool:
    partial = np.cumsum((weights * np.asarray(codes, object))[order].astype(np.int64))
    return bool(partial.max() >= 1 << (bits - 1) or partial.min() < -(1 << (bits - 1)))


def usefulness(folder: str, images: int, rounds: int) -> dict[str, Any]:
    """Return shares, tightness and time of one run under bf16 operands with float32 sums."""
    run = runs.open(folder)
    kept = trained.load(run)
    dataset = sources.reopen(run.read_json("dataset.json"), runs.Unrecorded(None, None))
    x, labels = sources.pixels(dataset.test, kept.preprocess, images, 0)
    graph, bf16 = kept.graph, formats.parse("bf16")
    setting = describe(graph, precision.uniform(bf16, bf16, precision.layout(graph)))
    found, few = certify(setting, x, exact=True), x[:200]
    largest = np.zeros((len(few), found.gaps.shape[1]))
    for order in MACHINE_ORDERS:
        scores = compute(setting, few, order).astype(np.float64)
        largest = np.maximum(largest, np.abs(scores[np.arange(len(few)), found.classes[:200]][:, None] - scores - found.gaps[:200]))
    intervals = walk(setting.rounded, torch.from_numpy(few), setting, layer_bounds(setting, None)).values[graph.outputs[0].name].radius
    rows, rival = np.arange(len(few)), found.rival[:200]
    error = largest[rows, rival]
    wide = (intervals[rows, found.classes[:200]] + intervals[rows, rival]).double().numpy()
    seconds = timings(kept.module, setting, x[:500], rounds)
    return {
        "run": run.folder.name,
        "model": kept.name,
        "images": len(x),
        "accuracy": float((found.classes == labels).mean()),
        "certain": float(found.certain.mean()),
        "likely": float(found.likely.mean()),
        "tightness": float(np.median(found.bounds[:200][rows, rival] / error)),
        "likely_tightness": float(np.median(found.likely_bounds[:200][rows, rival] / error)),
        "intervals": float(np.median(wide / error)),
        "numbers": str(FAST.dtype),
        **seconds,
    }


def timings(module: torch.nn.Module, setting: Any, x: np.ndarray, rounds: int) -> dict[str, Any]:
    """Time a forward pass in batches of 100 and the proofs, in turn."""
    inputs = torch.from_numpy(x)
    forward, proof, exact = [], [], []
    for turn in range(rounds + 1):
        begin = time.perf_counter()
        with torch.no_grad():
            for part in inputs.split(100):
                module(part)
        middle = time.perf_counter()
        certify(setting, x)
        end = time.perf_counter()
        certify(setting, x, exact=True)
        if turn:
            forward.append(middle - begin)
            proof.append(end - middle)
            exact.append(time.perf_counter() - end)
    median = {"forward": statistics.median(forward), "proof": statistics.median(proof), "exact": statistics.median(exact)}
    return {f"{name}_ms": 1e3 * value / len(x) for name, value in median.items()} | {
        "passes": median["proof"] / median["forward"],
        "passes_exact": median["exact"] / median["forward"],
    }


def remembered(path: Path) -> dict[str, dict[str, Any]]:
    """Return the parts that are done."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["key"]: row for row in rows}


def main() -> None:
    """Do what is not done, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, default=Path("certificates.state"), help="folder of what is done")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--nets", nargs="*", default=list(SOURCES))
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument("--run-images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.state.mkdir(parents=True, exist_ok=True)
    path = given.state / "parts.jsonl"
    done = remembered(path)

    def keep(key: str, row: dict[str, Any]) -> None:
        done[key] = {"key": key, **row}
        with path.open("a") as file:
            file.write(json.dumps(done[key]) + "\n")
        print(json.dumps(done[key]), flush=True)

    for name in given.nets:
        graph, x, _, calibration = network(name, SOURCES[name], given.state, given.images)
        for number, (plan_name, plan) in enumerate(plans(graph).items()):
            if f"{name}/{plan_name}" not in done:
                keep(f"{name}/{plan_name}", {"net": name, **soundness(graph, plan, x, calibration, number)})
        for text in ("int8", "int4", "fixed<3,5>"):
            if f"{name}/overflow/{text}" not in done:
                fmt = formats.parse(text)
                keep(
                    f"{name}/overflow/{text}",
                    {"net": name, **overflow(graph, precision.uniform(fmt, fmt, precision.layout(graph)), calibration)},
                )
    for folder in given.runs:
        key = f"run/{Path(folder).name}"
        if key not in done:
            keep(key, usefulness(folder, given.run_images, given.rounds))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "certificates.json").write_text(json.dumps(list(done.values()), indent=1) + "\n")
    (RESULTS / "certificates.md").write_text("\n".join(page(done)) + "\n")
    print("\n".join(page(done)))


def table(*rows: tuple[object, ...]) -> list[str]:
    """Return a Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return ["", lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""]


def share(count: float, total: float = 1) -> str:
    return f"{100 * count / total:.2f} %"


def page(done: dict[str, dict[str, Any]]) -> list[str]:
    """Return the result page."""
    sound = [row for row in done.values() if "changed_certain" in row]
    attacks = [row for row in done.values() if "attacks" in row]
    useful = [row for row in done.values() if "passes" in row]
    images = {row["net"]: row["images"] for row in sound}
    told = " and ".join(f"{count:,} of {net}" for net, count in images.items())
    wrong, outside = (sum(row[key] for row in sound) for key in ("changed_certain", "outside"))
    return [
        "# Proofs that the class cannot change, against five orders of additions",
        "",
        f"Images: {told}; {len({row['plan'] for row in sound})} plans; orders {', '.join(MACHINE_ORDERS)}.  ",
        f"Proved classes that changed: **{wrong}**. Differences of scores outside their bound: **{outside}**.",
        *table(
            (
                "net",
                "plan",
                "certain",
                "likely",
                "changed in an order",
                "of certain",
                "of likely",
                "outside bound",
                "likely",
                "bound / error",
            ),
            *(sound_cells(row) for row in sound),
        ),
        "Likely: certain, or but for a probability of 1e-6. Changed: images whose class an order changes, fewest to most of the five.",
        "",
        "## Attacks on integer accumulators",
        *table(
            (
                "net",
                "plan",
                "channels",
                "attacks",
                "succeeded",
                "one bit less overflows",
                "bits of layers",
                "by the l1 norm",
                "by the types",
            ),
            *(attack_cells(row) for row in attacks),
        ),
        "## Use: operands in bf16, sums in float32",
        "",
        "Goals: 70 % certain, 95 % likely (1e-6), median bound at most 30 times the error, at most 10 forward passes.",
        *table(
            ("run", "images", "right", "certain", "likely", "bound / error", "likely", "intervals", "forward, ms", "passes", "exact"),
            *(useful_cells(row) for row in useful),
        ),
        "Passes: time of a proof in forward passes of torch, batches of 100; exact: with the class of exact arithmetic as the reference.",
        footer(),
    ]


def sound_cells(row: dict[str, Any]) -> tuple[object, ...]:
    tight = "no bound" if row["tightness"] is None else f"{row['tightness']:.1f}"
    changed = f"{min(row['changed'].values())} to {max(row['changed'].values())}"
    shares = share(row["certain"], row["images"]), share(row["likely"], row["images"])
    counts = (row[key] for key in ("changed_certain", "changed_likely", "outside", "outside_likely"))
    return row["net"], row["plan"], *shares, changed, *counts, tight


def attack_cells(row: dict[str, Any]) -> tuple[object, ...]:
    widths = (", ".join(map(str, row[key])) for key in ("bits", "l1_bits", "type_bits"))
    less = f"{row['one_bit_less']} of {row['channels']}"
    return row["net"], row["plan"], row["channels"], f"{row['attacks']:,}", row["succeeded"], less, *widths


def useful_cells(row: dict[str, Any]) -> tuple[object, ...]:
    shares = (share(row[key]) for key in ("accuracy", "certain", "likely"))
    bounds = f"{row['tightness']:.1f}", f"{row['likely_tightness']:.1f}", f"{row['intervals']:,.0f}"
    times = f"{row['forward_ms']:.3f}", f"{row['passes']:.1f}", f"{row['passes_exact']:.1f}"
    return f"{row['model']} on {row['run']}", f"{row['images']:,}", *shares, *bounds, *times


if __name__ == "__main__":
    main()

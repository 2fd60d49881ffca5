"""Claim: the studio's table of runs is answered in 100 ms at 10,000 runs, painted first in 1 s at 1,000, and 50 viewers of a live run slow
its training by at most 3 %.

`--part table` and `--part paint` write that many run folders, start the studio as a process of its own and ask it (a browser with an
empty cache, Debian's Chromium without a window, for the paint). `--part viewers` trains on the bundled digits with `--threads` and counts
updates in windows of a few seconds, in turn with no viewer and with 50 that read the run's events as its page does; the viewers are on
the same machine, so their own work is in the figure. Every epoch of these digits takes a fraction of a second, so there is much to send.

Results: docs/results/studio.md (medians, quartiles, n); each part adds its own to studio.json.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from machine import RESULTS, footer, quartiles

from convsmith import runs

TABLE_GOAL_MS, PAINT_GOAL_MS, VIEWERS_GOAL = 100.0, 1000.0, 0.03
VIEWERS = 50


@contextmanager
def studio(root: Path) -> Iterator[tuple[str, str]]:
    """Run a studio over a folder of runs; give its address and token."""
    command = [sys.executable, "-m", "convsmith.cli", "studio", "--port", "0", "--root", str(root), "--requests", "100000"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = next(match for line in process.stdout if (match := re.search(r"open (http://127.0.0.1:(\d+))/login\?token=(\w+)", line)))
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(found[2])), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield found[1], found[3]
    finally:
        process.terminate()
        process.wait()


def write_runs(root: Path, count: int) -> None:
    """Write that many finished trainings, each with what the table shows and a few epochs."""
    record = runs.create(root / "template", "train", {"data": "digits", "epochs": 3}, data="digits")
    for epoch in range(1, 4):
        record.event("epoch", epoch=float(epoch), loss=1 / epoch, val_loss=1 / epoch, accuracy=0.9, val_accuracy=0.9, lr=0.1)
    record.finish("finished", top1=0.9, model="smallnet", parameters=160_210)
    described = json.loads((root / "template" / "run.json").read_text())
    began = datetime.now(UTC)
    for number in range(count - 1):
        folder = root / f"2026-01-01-{number:05d}-train-data"
        folder.mkdir()
        changed = {"name": folder.name, "data": f"set {number % 37}", "created": (began - timedelta(minutes=number)).isoformat()}
        changed["summary"] = {"top1": (number * 7919 % 1000) / 1000, "model": ("smallnet", "resnet18")[number % 2]}
        (folder / "run.json").write_text(json.dumps(described | changed))
        for name in ("config.yaml", "events.jsonl"):
            shutil.copyfile(root / "template" / name, folder / name)


def ask(address: str, token: str, path: str) -> tuple[float, int]:
    """Return the milliseconds until a page has arrived whole, and its bytes."""
    request = urllib.request.Request(address + path, headers={"authorization": f"Bearer {token}"})
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        size = len(answer.read())
    return 1000 * (time.perf_counter() - began), size


def measure_table(count: int, rounds: int) -> dict[str, Any]:
    """Time the first page, a later one, one sorted by accuracy and one that is searched."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, count)
        with studio(root) as (address, token):
            first_ms, _ = ask(address, token, "/")
            time.sleep(2)
            pages = {"newest": "/", "page 50": "/?page=50", "by accuracy": "/?sort=top1", "searched": "/?text=resnet18+set+11"}
            times: dict[str, list[float]] = {name: [] for name in pages}
            sizes = {}
            for _ in range(rounds):
                for name, path in pages.items():
                    took, sizes[name] = ask(address, token, path)
                    times[name].append(took)
                time.sleep(0.15)  # so that the table is read again behind some of them, as it is when a person looks
    rows = [{"page": name, "quartiles_ms": quartiles(found), "n": len(found), "bytes": sizes[name]} for name, found in times.items()]
    return {"runs": count, "first_ms": first_ms, "rows": rows}


def session(address: str, token: str) -> dict[str, str]:
    """Return the cookie of a browser that was let in."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", f"/login?token={token}")
    name, _, value = str(connection.getresponse().getheader("set-cookie")).partition(";")[0].partition("=")
    connection.close()
    return {"name": name, "value": value}


def measure_paint(count: int, rounds: int) -> dict[str, Any]:
    """Return when the first content is painted, in a browser that knows nothing yet."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    paints, loads = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, count)
        with studio(root) as (address, token), sync_playwright() as driver:
            cookie = session(address, token)
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for number in range(rounds + 1):
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                context.add_cookies([{"url": address, **cookie}])  # the session; no page is opened and nothing is cached
                page = context.new_page()
                page.goto(address + "/", wait_until="load")
                entry: list[float] = []
                while not entry:
                    page.wait_for_timeout(20)
                    entry = page.evaluate("() => performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)")
                if number:  # the first one starts the browser's own processes
                    paints.append(float(entry[0]))
                    loads.append(float(page.evaluate("() => performance.getEntriesByType('navigation')[0].loadEventStart")))
                context.close()
            browser.close()
    return {"runs": count, "paint_ms": quartiles(paints), "load_ms": quartiles(loads), "n": len(paints)}


async def view(address: str, token: str, name: str, after: int, count: int) -> None:
    """Read a run's events over as many connections until this process is ended."""
    host, port = address.removeprefix("http://").split(":")
    head = f"GET /api/runs/{name}/events?after={after} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        answer = await reader.read(15)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        while await reader.read(1 << 16):
            pass

    await asyncio.gather(*(one() for _ in range(count)))


def measure_viewers(threads: int, rounds: int, window_s: float) -> dict[str, Any]:
    """Return the training's updates a second without and with viewers, in windows in turn."""
    rates: dict[str, list[float]] = {"none": [], "viewers": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = root / "live"
        environment = os.environ | {"CONVSMITH_RUNS": str(root), "OMP_WAIT_POLICY": "PASSIVE"}
        words = ["train", "digits", "--epochs", "100000", "--threads", str(threads), "--out", str(run)]
        with studio(root) as (address, token):
            training = subprocess.Popen([sys.executable, "-m", "convsmith.cli", *words], env=environment, stderr=subprocess.DEVNULL)
            try:
                while epochs(run) < 5:
                    time.sleep(0.2)
                    assert training.poll() is None
                for number in range(rounds):
                    for kind in ("none", "viewers") if number % 2 == 0 else ("viewers", "none"):
                        rates[kind].append(window(run, window_s, (address, token) if kind == "viewers" else None))
            finally:
                training.send_signal(signal.SIGINT)
                training.wait()
    slower = [1 - with_them / without for without, with_them in zip(rates["none"], rates["viewers"], strict=True)]
    steps = {kind: quartiles(found) for kind, found in rates.items()}
    return {"threads": threads, "viewers": VIEWERS, "updates_s": steps, "slower": quartiles(slower), "n": rounds, "window_s": window_s}


def epochs(run: Path) -> int:
    path = run / "events.jsonl"
    return path.read_text().count('"kind": "epoch"') if path.exists() else 0


def window(run: Path, seconds: float, viewed: tuple[str, str] | None) -> float:
    """Return the updates a second of a training over some seconds, after one to settle."""
    events = run / "events.jsonl"
    watching = None
    if viewed:
        words = [sys.executable, __file__, "--view", *viewed, run.name, str(events.stat().st_size)]
        watching = subprocess.Popen(words)
    time.sleep(2.0)
    start = events.stat().st_size
    time.sleep(seconds)
    with events.open("rb") as file:
        file.seek(start)
        lines = [json.loads(line) for line in file.read().splitlines()[1:-1]]
    if watching:
        assert watching.poll() is None, "a viewer was refused"
        watching.kill()
        watching.wait()
    ended = [line for line in lines if line["kind"] == "epoch"]
    took = (datetime.fromisoformat(ended[-1]["time"]) - datetime.fromisoformat(ended[0]["time"])).total_seconds()
    return float(ended[-1]["step"] - ended[0]["step"]) / took


def told(values: list[float] | tuple[float, ...], digits: int = 1, scale: float = 1.0) -> str:
    low, middle, high = (f"{scale * value:.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def verdict(reached: bool) -> str:
    return "**holds**" if reached else "**missed**"


def page(found: dict[str, Any], command: str) -> str:
    """Return the result page of whatever was measured."""
    parts = ["# The studio: speed\n"]
    if table := found.get("table"):
        most = max(row["quartiles_ms"][1] for row in table["rows"])
        reached = f"{verdict(most <= TABLE_GOAL_MS)}, {most:.1f} ms (slowest median)"
        parts.append(f"Table of runs in {TABLE_GOAL_MS:.0f} ms at {table['runs']:,} runs: {reached}.\n")
        parts += ["| page | ms, median (quartiles) | n | bytes |", "|---|---|---|---|"]
        parts += [f"| {row['page']} | {told(row['quartiles_ms'])} | {row['n']} | {row['bytes']:,} |" for row in table["rows"]]
        first = f"{table['first_ms'] / 1000:.1f} s"
        parts.append(f"\nThe very first answer over folders that no index knows, which reads them all and writes it: {first}.\n")
    if paint := found.get("paint"):
        reached = f"{verdict(paint['paint_ms'][1] <= PAINT_GOAL_MS)}, {told(paint['paint_ms'], 0)} ms"
        parts.append(f"First paint in {PAINT_GOAL_MS / 1000:.0f} s at {paint['runs']:,} runs: {reached}.\n")
        parts.append(f"The whole page is loaded after {told(paint['load_ms'], 0)} ms; {paint['n']} browsers with an empty cache.\n")
    for key in sorted(name for name in found if name.startswith("viewers")):
        row = found[key]
        reached = row["slower"][1] <= VIEWERS_GOAL
        parts.append(
            f"{row['viewers']} viewers of a training on {row['threads']} thread{'s' if row['threads'] > 1 else ''} slow it by at most "
            f"{100 * VIEWERS_GOAL:.0f} %: {verdict(reached)}, {told(row['slower'], 1, 100)} % slower (below 0: faster).\n"
        )
        parts.append(
            f"Updates a second: {told(row['updates_s']['none'], 0)} without, {told(row['updates_s']['viewers'], 0)} with; "
            f"{row['n']} pairs of windows of {row['window_s']:g} s.\n"
        )
    return "\n".join([*parts, command])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("table", "paint", "viewers", "all"), default="all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--view", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.view:
        address, token, name, after = asked.view
        asyncio.run(view(address, token, name, int(after), VIEWERS))
        return
    stored = RESULTS / "studio.json"
    found: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    if asked.part in ("table", "all"):
        found["table"] = measure_table(10_000, max(20, asked.rounds))
    if asked.part in ("paint", "all"):
        found["paint"] = measure_paint(1000, asked.rounds)
    if asked.part in ("viewers", "all"):
        found[f"viewers on {asked.threads}"] = measure_viewers(asked.threads, asked.rounds, asked.window)
    stored.write_text(json.dumps(found, indent=1) + "\n")
    text = page(found, footer(("convsmith", "fastapi", "uvicorn", "torch", "playwright")))
    (RESULTS / "studio.md").write_text(text)
    print(text)
    missed = [statistics.median(found[key]["slower"]) > VIEWERS_GOAL for key in found if key.startswith("viewers")]
    missed += [row["quartiles_ms"][1] > TABLE_GOAL_MS for row in found.get("table", {"rows": []})["rows"]]
    missed += [found["paint"]["paint_ms"][1] > PAINT_GOAL_MS] if "paint" in found else []
    sys.exit(int(any(missed)))


if __name__ == "__main__":
    main()

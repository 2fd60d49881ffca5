"""Claim: `convsmith forge` comes to its end on folders of a few hundred photos, from scratch, on two cores, and says what it found.

Accuracy is modest: there is no pretrained network in this flow yet. Needs CONVSMITH_DATA with data/flowers5 and data/trashnet.
Run: python benchmarks/forge_photos.py [--time 10m] [--sets flowers5,trashnet]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, footer


def forge(data: Path, allowed: str, out: Path) -> dict[str, object]:
    """Run the verb as a user would and return its JSON document with the wall time."""
    begun = time.monotonic()
    words = [sys.executable, "-m", "convsmith.cli", "forge", str(data), "--time", allowed, "--out", str(out), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    return document | {"exit_code": done.returncode, "wall_s": time.monotonic() - begun}


def row(name: str, document: dict[str, object]) -> str:
    """Return one line of the table."""
    result = document["result"]
    assert isinstance(result, dict)
    low, high = result["interval"]
    bits, parity = result["bits"], result["export"]["parity"]
    confirmed = bits["confirmed"]
    drop = f"{confirmed['drop']:+.1f} points on the test images" if confirmed else "no separate test images"
    fastest = min((r for r in result["speed"] if r["batch"] == 1 and "whole" not in r["runtime"]), key=lambda r: r["median_ms"])
    torch = next(r for r in result["speed"] if r["batch"] == 1 and r["runtime"] == "torch")
    return (
        f"| {name} | {sum(result['images'].values())} | {result['model']} | {result['parameters']:,} | {100 * result['top1']:.1f} "
        f"({100 * low:.1f} to {100 * high:.1f}) | {bits['chosen'] or 'float32'} ({drop}) | {parity['different']} of {parity['images']} | "
        f"{fastest['runtime']} {fastest['median_ms']:.2f} ms, {torch['median_ms'] / fastest['median_ms']:.1f}x torch | "
        f"{document['wall_s']:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", default="10m")
    parser.add_argument("--sets", default="flowers5,trashnet")
    arguments = parser.parse_args()
    root = os.environ.get("CONVSMITH_DATA") or sys.exit("set CONVSMITH_DATA to the folder that holds data/flowers5")
    lines = [
        "# forge on small folders of photos, from scratch",
        "",
        f"`--time {arguments.time}`. Accuracy with its 95 % interval, on the images the source holds out.",
        "",
        "| images | number | model | parameters | top-1 % | fewest bits | predicted otherwise by the file | fastest, batch 1 | wall |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets.split(","):
            document = forge(Path(root) / "data" / name, arguments.time, Path(folder) / name)
            lines.append(row(name, document) if document["ok"] else f"| {name} | failed: {document['error']} |")
            print(lines[-1], flush=True)
    (RESULTS / "forge_photos.md").write_text("\n".join(lines) + "\n" + footer(("convsmith", "torch", "onnxruntime", "openvino")))


if __name__ == "__main__":
    main()

"""Claim: what five papers on low precision found is found again, each claim of theirs a rule that the page of the paper judges.

Runs the quick setups (some 60 minutes on two cores in all, or a paper by name) and writes docs/results/reproduce_PAPER.md, .json and .svg.
A run that was interrupted goes on from --runs FOLDER, as `convsmith resume` does.
Run: python benchmarks/reproductions.py [PAPER ...] [--full] [--runs FOLDER] [--threads 2]. Needs CONVSMITH_DATA.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from machine import RESULTS, footer

from convsmith import jobs, runs
from convsmith.training.reproductions import PAPERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("papers", nargs="*", default=list(PAPERS), metavar="PAPER")
    parser.add_argument("--full", action="store_true", help="the published setups: hours to days")
    parser.add_argument("--runs", type=Path, help="where the run folders are, to go on with them")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    root = arguments.runs or Path(tempfile.mkdtemp(prefix="reproductions-"))
    held = [reproduce(paper, root, quick=not arguments.full, threads=arguments.threads) for paper in arguments.papers]
    sys.exit(0 if all(held) else 1)


def reproduce(paper: str, root: Path, *, quick: bool, threads: int) -> bool:
    """Run a paper, or go on with it, store its page, and return whether every claim holds."""
    folder = root / (paper if quick else f"{paper}_full")
    if not (folder / "run.json").exists():
        jobs.perform("reproduce", {"paper": paper, "quick": quick, "threads": threads}, out=folder)
    elif runs.open(folder).status != "finished":
        jobs.perform("resume", {"run": str(folder)})
    name = f"reproduce_{paper}" if quick else f"reproduce_{paper}_full"
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "errors.svg", RESULTS / f"{name}.svg")
    text = (folder / "page.md").read_text(encoding="utf-8").replace("(errors.svg)", f"({name}.svg)")
    (RESULTS / f"{name}.md").write_text(text + footer(), encoding="utf-8")
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for row in found["rows"]:
        del row["wrong"]  # thousands of numbers that the table has used
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(text)
    return all(claim["holds"] for experiment in found["experiments"] for claim in experiment["claims"])


if __name__ == "__main__":
    main()

"""Two runs, the folders they leave, and whether the one is really better than the other."""

import tempfile
from pathlib import Path

from convsmith import jobs, runs

with tempfile.TemporaryDirectory() as root:
    short = jobs.perform("train", {"data": "digits", "epochs": 1, "threads": 1}, out=Path(root) / "short").folder
    longer = jobs.perform("train", {"data": "digits", "epochs": 3, "threads": 1}, out=Path(root) / "longer").folder

    for entry in runs.entries(Path(root)):
        print(f"{entry.name}: {entry.verb} on {entry.data}, {entry.status}, top-1 {entry.summary['top1']:.4f}")

    run = runs.open(longer)
    print(f"{run.name} was made by: {' '.join(run.described['command'])}")
    print("its events:", ", ".join(dict.fromkeys(event["kind"] for event in run.events())))

    compared = runs.compare(short, longer)
    print(f"{compared.paired.n} shared test images, settings that differ: {dict(compared.differences)}")
    print(compared.paired.sentence)

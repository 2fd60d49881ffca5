"""Claim: on Fashion-MNIST and two cores, at least 92.5 % of the test images in at most 6 minutes, with what `forge` chooses itself.

The clock starts with the idx.gz files on disk and stops with the trained network. 5,000 of the training images choose the weights;
the test images are looked at once. Each seed is one run; the mean accuracy and the slowest run count.
Run: python benchmarks/fashion_accuracy.py [--seeds 3 | --seed N] [--threads 2]. Needs CONVSMITH_DATA.
Writes docs/results/fashion_accuracy.md and .json.
"""

from __future__ import annotations

import sys

from accuracy import asked, measure, source

LIMIT_S = 360.0


def main() -> None:
    arguments = asked(__doc__, 3)
    claim = f"Fashion-MNIST: at least 92.5 % in at most 6 minutes on {arguments.threads} threads"
    sys.exit(0 if measure("fashion_accuracy", claim, source("fashion-mnist"), 0.925, LIMIT_S, arguments) else 1)


if __name__ == "__main__":
    main()

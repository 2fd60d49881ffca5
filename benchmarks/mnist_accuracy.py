"""Claim: on MNIST and two cores, what `forge` chooses reaches 99.0 % of the test images in at most 20 s and 99.3 % in at most 2 minutes.

The clock starts with the idx.gz files on disk and stops with the trained network. 5,000 of the training images choose the weights;
the test images are looked at once. Each seed is one run; the mean accuracy and the slowest run count.
Run: python benchmarks/mnist_accuracy.py [--seeds 3] [--threads 2]. Needs CONVSMITH_DATA. Writes docs/results/mnist_20s.md,
mnist_120s.md and .json.
"""

from __future__ import annotations

import argparse
import sys

from accuracy import page, run, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    reached = []
    for limit_s, goal in ((20.0, 0.990), (120.0, 0.993)):
        results = [run(source("mnist"), seed, limit_s, arguments.threads) for seed in range(arguments.seeds)]
        claim = f"MNIST: at least {100 * goal:.1f} % in at most {limit_s:.0f} s on {arguments.threads} threads"
        reached.append(page(f"mnist_{limit_s:.0f}s", claim, results, goal, limit_s))
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()

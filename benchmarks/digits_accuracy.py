"""Claim: on scikit-learn's 1,797 handwritten digits, mean test accuracy over 5 seeds is at least 98.5 %, with what `forge` chooses itself.

Each seed makes its own stratified split: 20 % are held out for the test, 20 % choose the weights, 60 % train. No network is needed.
Run: python benchmarks/digits_accuracy.py [--seeds 5] [--threads 2]. Writes docs/results/digits_accuracy.md and .json.
"""

from __future__ import annotations

import argparse
import sys

from accuracy import page, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results = [run("digits", seed, None, arguments.threads) for seed in range(arguments.seeds)]
    claim = f"Digits: at least 98.5 % of the held-out 20 %, mean of {arguments.seeds} seeds"
    sys.exit(0 if page("digits_accuracy", claim, results, 0.985, None) else 1)


if __name__ == "__main__":
    main()

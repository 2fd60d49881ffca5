"""Claim: on scikit-learn's 1,797 handwritten digits, mean test accuracy over 5 seeds is at least 98.5 %, with what `forge` chooses itself.

Each seed makes its own stratified split: 20 % are held out for the test, 20 % choose the weights, 60 % train. No network is needed.
Run: python benchmarks/digits_accuracy.py [--seeds 5 | --seed N] [--threads 2]. Writes docs/results/digits_accuracy.md and .json.
"""

from __future__ import annotations

import sys

from accuracy import asked, measure


def main() -> None:
    arguments = asked(__doc__, 5)
    claim = f"Digits: at least 98.5 % of the held-out 20 %, mean of {arguments.seeds} seeds"
    sys.exit(0 if measure("digits_accuracy", claim, "digits", 0.985, None, arguments) else 1)


if __name__ == "__main__":
    main()

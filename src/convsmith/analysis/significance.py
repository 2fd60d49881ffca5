"""How sure a measured accuracy is, and whether two classifiers really differ on the same images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convsmith.errors import DataError, UsageError

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images: how often they agree, and how likely the disagreement is chance.

    ``p_exact``: two-sided binomial test on the discordant images; ``p_mid``: its mid-p version, less conservative.
    ``difference``: accuracy of B minus accuracy of A, a share.
    """

    n: int
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    difference: float
    p_exact: float
    p_mid: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, within 0..1; 95 % by default.

    Unlike the normal interval it is not empty at 0 or ``n`` successes.

    References: E. B. Wilson, JASA 22 (1927) 209-212.
    Raises: DataError when ``n`` is 0; UsageError when ``successes`` is not within 0..n.
    """
    if n < 1:
        raise DataError("an interval needs at least one image, got 0; give images to evaluate")
    if not 0 <= successes <= n:
        raise UsageError(f"{successes} of {n} is not a proportion; the first number is 0 to {n}")
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike, *, name_a: str = "A", name_b: str = "B", level: float = 0.05) -> Paired:
    """Test whether two classifiers differ, from which of the same images each got right.

    Only the images that exactly one of them got right carry information; under chance they split evenly. Without any, p is 1.

    Shapes: both ``(n,)``, true where right.
    References: Q. McNemar, Psychometrika 12 (1947) 153-157; mid-p: M. Fagerland et al., BMC Med. Res. Methodol. 13 (2013) 91.
    Raises: DataError when the vectors are empty or differ in length.
    """
    right_a, right_b = _correctness(correct_a, name_a), _correctness(correct_b, name_b)
    if right_a.shape != right_b.shape:
        raise DataError(
            f"{name_a} has {right_a.size} images and {name_b} has {right_b.size}; "
            "the paired test needs the same images in the same order: evaluate both on one split"
        )
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p_exact, p_mid = _two_sided(only_a, only_b)
    return Paired(
        n=right_a.size,
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        difference=(only_b - only_a) / right_a.size,
        p_exact=p_exact,
        p_mid=p_mid,
        sentence=_sentence(name_a, name_b, only_a, only_b, right_a.size, p_mid, level),
    )


def _correctness(values: ArrayLike, name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}; the paired test needs one true or false for each image, at least one")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise UsageError(f"{name} has values other than true and false; give predictions == labels")
    return array.astype(np.bool_)


def _two_sided(b: int, c: int) -> tuple[float, float]:
    """Return ``p_exact, p_mid`` of ``b`` against ``c`` for a fair coin; sums logarithms, so any count works."""
    n, k = b + c, min(b, c)
    if n == 0:
        return 1.0, 1.0
    log_term = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    tail, point = math.fsum(math.exp(term) for term in log_term), math.exp(log_term[-1])
    return min(1.0, 2 * tail), min(1.0, 2 * tail - point)


def _sentence(name_a: str, name_b: str, only_a: int, only_b: int, n: int, p: float, level: float) -> str:
    chance = f"mid-p = {p:.3f}" if p >= 0.001 else "mid-p < 0.001"
    counts = f"{name_a} alone is right on {only_a}, {name_b} alone on {only_b} of {n} images ({chance})"
    if only_a == only_b == 0:
        return f"{name_a} and {name_b} are right on the same {n} images: no difference is seen."
    if p >= level:
        return f"{counts}: the difference could be chance."
    better, worse = (name_a, name_b) if only_a > only_b else (name_b, name_a)
    return f"{counts}: {better} is better than {worse}, and chance alone would rarely show such a difference."

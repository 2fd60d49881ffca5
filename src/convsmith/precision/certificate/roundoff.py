"""How far one rounding moves a number, and how far a sum of products can be from its exact value.

References: Higham 2002, Accuracy and Stability of Numerical Algorithms, chapters 2 to 4; Higham and Mary 2019, doi 10.1137/18M1226312;
Connolly, Higham and Mary 2021, doi 10.1137/20M1334796; Azuma 1967 and Hoeffding 1963 for the inequality of martingales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from convsmith import formats
from convsmith.formats import Format, Rounding

#: Factor by which every bound below is enlarged: more than the rounding errors of the double arithmetic that computes it.
SLACK: Final = 1 + 2.0**-40
NEAREST: Final = ("nearest_even", "nearest_away")


@dataclass(frozen=True)
class Roundoff:
    """``|round(x) - x| <= relative |x| + absolute`` for ``|x| <= limit``.

    ``drift``: of a rounding whose error has mean zero, the part of that bound by which the mean can differ from it; None where the
    error is not random, or biased.
    """

    relative: float
    absolute: float
    limit: float = math.inf
    drift: float | None = 0.0

    def wider(self, other: Roundoff) -> Roundoff:
        """Return what holds for either of two roundings."""
        drift = None if self.drift is None or other.drift is None else max(self.drift, other.drift)
        return Roundoff(max(self.relative, other.relative), max(self.absolute, other.absolute), min(self.limit, other.limit), drift)


#: One operation in float32, whether or not the machine flushes subnormal numbers to zero.
FLOAT32: Final = Roundoff(2.0**-24, 2.0**-126, float(2**128 - 2**104))


def roundoff(fmt: Format, rounding: Rounding = "nearest_even", random_bits: int = formats.MAX_RANDOM_BITS) -> Roundoff:
    """Return what one rounding to a float, fixed-point or integer format does; an unsigned one has limit 0, since sums go below zero."""
    part = 0.5 if rounding in NEAREST else 1.0
    limit = min(formats.max_value(fmt), max(0.0, -formats.min_value(fmt)))
    drift = 0.0 if rounding in NEAREST else 2.0**-random_bits if rounding == "stochastic" else None
    if fmt.kind != "float":
        return Roundoff(0.0, part * formats.smallest_positive(fmt), limit, drift)
    smallest = formats.smallest_positive(fmt) if fmt.subnormals else formats.smallest_normal(fmt)
    return Roundoff(part * formats.epsilon(fmt), part * smallest, limit, drift)


def power(u: float, count: int) -> float:
    """Return an upper bound of ``(1 + u)^count - 1``; infinite where that is beyond double."""
    exponent = count * math.log1p(u)
    return math.expm1(exponent) * SLACK if exponent < 700 else math.inf


@dataclass(frozen=True)
class SumBound:
    """What the sum of ``n`` products and a bias can be, with M the sum of the magnitudes of the exact products and of the bias.

    ``relative M + absolute`` bounds the error of additions along any tree, ``compensated M + compensated_absolute`` that of Kahan's sums,
    ``reach M + reach_absolute`` every number that is stored on the way. ``addition`` and ``product`` are the bounds of one rounding,
    from which `tree_error` and `spread` find a smaller bound for the sum at hand: ``plain`` adds up their absolute parts.
    ``factor``: of a bound in probability, how often the root of summed squares is taken; None for one that is certain.
    ``drift``: the part of a rounding's bound by which its mean can differ from zero.
    """

    relative: float
    absolute: float
    reach: float
    reach_absolute: float
    compensated: float = 0.0
    compensated_absolute: float = 0.0
    addition: float = 0.0
    product: float = 0.0
    plain: float = 0.0
    factor: float | None = None
    drift: float = 0.0

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.relative + self.absolute + self.reach + self.reach_absolute + self.compensated)

    def partial(self, m: Any, s: Any) -> Any:
        """Return a bound of every partial sum: no part of the terms sums to more than ``(M + |s|) / 2``, s being the sum of all."""
        return (m + s) / 2 + self.relative * m + self.absolute

    def spread(self, count: Any, m: Any, s: Any) -> Any:
        """Return the root of the sum of the squared bounds of ``count`` additions and of the products."""
        return self.addition * count**0.5 * self.partial(m, s) + self.product * m + self.plain

    def steady(self, count: Any, m: Any, s: Any) -> Any:
        """Return what is not random beside the spread."""
        return self.drift * (self.addition * count * self.partial(m, s) + self.product * m + self.plain)

    def tree_error(self, count: Any, m: Any, s: Any) -> tuple[Any, Any]:
        """Return two bounds of the error of additions along a tree, of which the smaller holds.

        ``count``: additions that can round, those of zeros left out; ``m``: M; ``s``: the magnitude of the exact sum.
        """
        if self.factor is None:
            return self.relative * m + self.absolute, self.addition * count * self.partial(m, s) + self.product * m + self.plain
        return self.relative * m + self.absolute, self.factor * self.spread(count, m, s) + self.steady(count, m, s)

    def error(self, count: Any, m: Any, s: Any) -> Any:
        """Return a bound of the error of every covered order, for tensors, in few operations.

        Where sums have many terms that is the smaller bound of a tree; a least number of terms makes it cover compensated sums.
        """
        if self.factor is not None or self.relative > 0.25 or not self.addition:
            first, second = self.tree_error(count, m, s)
            tree = first if isinstance(second, float) else second.minimum(first)
            return tree.maximum(self.compensated * m + self.compensated_absolute) if self.compensated else tree
        enough = 2 * self.compensated / self.addition
        found = (
            (m * (0.5 + self.relative))
            .add_(s, alpha=0.5)
            .add_(self.absolute)
            .mul_((count * self.addition).clamp_min_(enough * self.addition))
        )
        return found.add_(m, alpha=self.product).add_(self.plain + self.compensated_absolute)


def any_tree(n: int, product: Roundoff, addition: Roundoff) -> SumBound:
    """Return the bound for every order: additions along any binary tree over n rounded products, a zero and a bias.

    A product passes through at most n + 1 additions, each a factor ``1 + d`` and an ``absolute`` (Higham 2002, section 4.2).
    """
    growth = 1 + power(addition.relative, n + 1)
    relative = (growth - 1 + product.relative * growth) * SLACK
    absolute = growth * (n * product.absolute + (n + 1) * addition.absolute) * SLACK
    return SumBound(relative, absolute, 1 + relative, absolute)


def kahan(n: int, product: Roundoff, addition: Roundoff) -> SumBound:
    """Return the bound for compensated sums ``y = p - c; t = s + y; c = (t - s) - y; s = t``, a bias added to the last.

    With e, f and g the errors of t, c and y: s = sum p + e_n - sum f + sum g, where for sums up to T and absolute errors a
    |e| <= (u T + a) / (1 - u), |f| <= (u + u^2) |y| + (2u + u^2) |e| + (2 + u) a and |g| <= u (|p| + |c|) + a. Holds for every rounding:
    the classical 2u + O(n u^2) needs rounding to nearest. Infinite where 2 n u^2 is near one or above.
    """
    u, a = addition.relative, addition.absolute
    relative, reach = _settled(n, u, 1.0, 0.0)
    absolute, reach_absolute = _settled(n, u, 0.0, a) if a else (0.0, 0.0)
    grown, more = 1 + product.relative, n * product.absolute
    error = power(u, 1) + (1 + u) * (grown * (1 + relative) - 1)
    rest = (1 + u) * ((1 + relative) * more + absolute) + a
    largest = reach * more + reach_absolute + rest
    return SumBound(error * SLACK, rest * SLACK, max(reach * grown, 1 + error) * SLACK, largest * SLACK)


def _settled(n: int, u: float, s: float, a: float) -> tuple[float, float]:
    """Return bounds of the error and of every stored number of a compensated sum whose magnitudes sum to ``s``.

    The bounds e of one error of t and f of the sum of errors of c satisfy linear inequalities in each other; what satisfies them with room
    to spare bounds their least solution.
    """

    def once(e: float, f: float) -> tuple[float, float, float]:
        g = u * (s + n * e + f) + n * a
        y = (1 + u) * (s + n * e + f) + n * a
        return (u * (s + e + f + g) + a) / (1 - u), (u + u * u) * y + (2 * u + u * u) * n * e + (2 + u) * n * a, g

    if u >= 1:
        return math.inf, math.inf
    e = f = 0.0
    for _ in range(400):
        e, f, _ = once(e, f)
        if e + f > 1e20 * (s + n * a):
            return math.inf, math.inf
    e, f = 1.001 * e, 1.001 * f
    e_next, f_next, g = once(e, f)
    if e_next > e or f_next > f:
        return math.inf, math.inf
    return (e + f + g) * SLACK, ((s + e + f + g) + 2 * (e + f)) * (1 + u) ** 2 * SLACK + 4 * a


def worst(n: int, product: Roundoff, addition: Roundoff, *, exact_sums: bool = False) -> SumBound:
    """Return what holds for every tree of additions, in blocks of float32 sums, and compensated.

    ``exact_sums``: products and sums are multiples of one step, so that only products and the bias are rounded while nothing overflows.
    """
    if exact_sums:
        rest = (n * product.absolute + addition.absolute) * SLACK
        return SumBound(product.relative * SLACK, rest, (1 + product.relative) * SLACK, rest, product=product.relative * SLACK, plain=rest)
    tree, compensated = any_tree(n, product, addition), kahan(n, product, addition)
    return SumBound(
        tree.relative,
        tree.absolute,
        max(tree.reach, compensated.reach),
        max(tree.reach_absolute, compensated.reach_absolute),
        compensated.relative,
        compensated.absolute,
        addition.relative * SLACK,
        product.relative * SLACK,
        (n * product.absolute + (n + 1) * addition.absolute) * SLACK,
    )


def probable(n: int, product: Roundoff, addition: Roundoff, failure: float, *, exact_sums: bool = False) -> SumBound:
    """Return a bound that one sum exceeds with probability at most ``failure`` when rounding errors have mean zero given the past.

    The error of a tree of additions is the sum of the errors of its roundings, a martingale. By Azuma's inequality it exceeds ``k`` times
    the root of the sum of their squared bounds with probability ``2 exp(-k^2 / 2)``. Those bounds need a bound of the partial sums:
    that is this bound itself, with ``failure`` shared by all of them and each martingale stopped when one exceeds it.
    Compensated sums keep their deterministic bound. `worst` where a rounding is not random or where that is smaller.
    """
    sure = worst(n, product, addition, exact_sums=exact_sums)
    if product.drift is None or addition.drift is None:
        return sure
    u, a, steps = (0.0, addition.absolute, 1) if exact_sums else (addition.relative, addition.absolute, n + 1)
    drift = max(product.drift, addition.drift)
    factor = azuma_factor(failure / (n + 2)) * (1 + drift)
    one = u * math.sqrt(steps)
    plain = math.sqrt(steps) * a + math.sqrt(n) * product.absolute
    rest = 1 - factor * one - drift * steps * u
    if rest <= 0:
        return sure
    relative = (factor * (one + product.relative) + drift * (steps * u + product.relative)) / rest * SLACK
    absolute = (factor * plain + drift * (steps * a + n * product.absolute)) / rest * SLACK
    if relative > sure.relative or (relative == sure.relative and absolute > sure.absolute):
        return sure
    reach, reach_absolute = 1 + relative, absolute
    if not exact_sums:
        compensated = kahan(n, product, addition)
        reach, reach_absolute = max(reach, compensated.reach), max(reach_absolute, compensated.reach_absolute)
    # the drift of absolute errors is counted with sqrt(n) of them where n may come together
    return replace(
        sure,
        relative=relative,
        absolute=absolute,
        reach=reach,
        reach_absolute=reach_absolute,
        addition=u * SLACK,
        plain=plain * SLACK,
        factor=factor,
        drift=drift * math.sqrt(steps),
    )


def azuma_factor(failure: float) -> float:
    """Return the k for which ``2 exp(-k^2 / 2)`` is ``failure``."""
    return math.sqrt(2 * math.log(2 / failure)) * SLACK

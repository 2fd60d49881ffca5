"""What rounding does to tensors over a run: overflow, underflow, saturation, stagnation, flips, dead signs, as rows to be plotted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from convsmith import formats
from convsmith.precision.rounding import Counts
from convsmith.precision.streams import Moment


@dataclass(frozen=True)
class Count:
    """Numbers of one tensor in one update, of ``n`` in all.

    ``overflow``: magnitudes beyond the range before rounding. ``underflow``: became zero without being it. ``saturation``: are at an end
    of the range after rounding. ``stagnation``: of an update, those below half a unit in the last place of the weight they are added to.
    ``flips``: of an update, the weights that are read with the other sign after it. NaN counts as none of them.

    Of signs, ``saturation`` are the numbers at or beyond 1, through which no gradient passes, or the weights at their limit; ``dead`` are
    those in channels that have one sign throughout the batch.
    """

    step: int
    layer: str
    role: str
    tensor: str
    n: int
    overflow: int = 0
    underflow: int = 0
    saturation: int = 0
    stagnation: int = 0
    flips: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Signs:
    """How a binary network learns, as shares of all its numbers: weights that changed sign in an update, channels that have one sign
    throughout a batch, and activations through which no gradient passes; None where there are none of them.
    """

    flips: float | None
    dead: float | None
    saturated: float | None


class Counters:
    """Counts in every ``every``-th update; 0 never. ``rows`` is what was counted, in order; ``signs`` are the tensors of signs."""

    def __init__(self, every: int = 0) -> None:
        self.every = every
        self.rows: list[Count] = []
        self.signs: set[tuple[str, str, str]] = set()

    def due(self, moment: Moment) -> bool:
        return self.every > 0 and moment.training and moment.step % self.every == 0

    def count(self, label: tuple[str, str, str], step: int, after: Tensor, counts: Counts, fmt: formats.Format) -> None:
        """Add the row of one rounding."""
        saturated = after == formats.max_value(fmt)
        if formats.min_value(fmt) < 0:
            saturated |= after == formats.min_value(fmt)
        self.rows.append(Count(step, *label, after.numel(), counts.overflows, counts.underflows, int(saturated.sum())))

    def count_zeros(self, label: tuple[str, str, str], step: int, n: int, underflow: int) -> None:
        """Add the row of scaled numbers, which hold their largest: only underflow can happen to them."""
        self.rows.append(Count(step, *label, n, underflow=underflow))

    def count_signs(self, label: tuple[str, str, str], step: int, x: Tensor) -> None:
        """Add the row of activations that become signs; their channels are those of axis 1."""
        self.signs.add(label)
        rows = (x < 0).transpose(0, 1).reshape(x.shape[1], -1) if x.ndim > 1 else (x < 0)[None]
        one_sign = int((rows.all(1) | ~rows.any(1)).sum())
        self.rows.append(Count(step, *label, x.numel(), saturation=int((x.abs() >= 1).sum()), dead=one_sign * rows.shape[1]))

    def count_update(self, label: tuple[str, str, str], step: int, n: int, *, stagnant: int, flips: int, limited: int = 0) -> None:
        """Add the row of one update of one weight."""
        self.rows.append(Count(step, *label, n, stagnation=stagnant, flips=flips, saturation=limited))

    def learning(self, since: int) -> Signs | None:
        """Return how the signs did from update ``since`` on, None where none were counted."""
        rows = [row for row in self.rows if row.step >= since and (row.layer, row.role, row.tensor) in self.signs]
        if not rows:
            return None
        read, updated = ([row for row in rows if (row.role == "update") is chosen] for chosen in (False, True))
        return Signs(_share(updated, "flips"), _share(read, "dead"), _share(read, "saturation"))

    def to_list(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def load(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = [Count(**row) for row in rows]


def _share(rows: Sequence[Count], what: str) -> float | None:
    return sum(getattr(row, what) for row in rows) / max(1, sum(row.n for row in rows)) if rows else None

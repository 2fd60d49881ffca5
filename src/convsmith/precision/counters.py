"""What rounding does to tensors over the time of a run: overflow, underflow, saturation, stagnation, flips, as rows to be plotted."""

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


class Counters:
    """Counts in every ``every``-th update; 0 never. ``rows`` is what was counted, in order."""

    def __init__(self, every: int = 0) -> None:
        self.every = every
        self.rows: list[Count] = []

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

    def count_update(self, label: tuple[str, str, str], step: int, n: int, *, stagnant: int, flips: int) -> None:
        """Add the row of one update of one weight."""
        self.rows.append(Count(step, *label, n, stagnation=stagnant, flips=flips))

    def to_list(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def load(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = [Count(**row) for row in rows]

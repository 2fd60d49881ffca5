"""Learning rate schedules as formulas of time.

``t`` is the time since the warm-up in epochs, ``total`` the length of the run after the warm-up. The first seven are the policies of Caffe
(Jia et al. 2014, arXiv:1408.5093, ``caffe.proto`` lr_policy), in epochs instead of iterations.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from convsmith.training.config import Schedule, ScheduleKind


def _sigmoid(t: float, total: float, s: Schedule) -> float:
    exponent = s.gamma * (t - (s.center or total / 2))
    return 1 / (1 + math.exp(exponent)) if exponent < 700 else 0.0


def _cosine(t: float, total: float, s: Schedule) -> float:
    return s.floor + (1 - s.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, t / total)))


def _one_cycle(t: float, total: float, s: Schedule) -> float:
    """Rise in a straight line from ``start`` to 1, then fall in a straight line to ``floor`` (Smith 2018, arXiv:1803.09820)."""
    p = min(1.0, t / total)
    if p < s.rise:
        return s.start + (1 - s.start) * p / s.rise
    return 1 + (s.floor - 1) * (p - s.rise) / (1 - s.rise)


FORMULAS: Final[dict[ScheduleKind, Callable[[float, float, Schedule], float]]] = {
    "constant": lambda t, total, s: 1.0,
    "step": lambda t, total, s: s.gamma ** math.floor(t / s.step + 1e-9),
    "exponential": lambda t, total, s: s.gamma**t,
    "inverse": lambda t, total, s: (1 + s.gamma * t) ** -s.power,
    "multistep": lambda t, total, s: s.gamma ** bisect_right(s.milestones, t + 1e-9),
    "polynomial": lambda t, total, s: max(0.0, 1 - t / total) ** s.power,
    "sigmoid": _sigmoid,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "linear": lambda t, total, s: 1 + (s.floor - 1) * min(1.0, t / (s.settle * total)),
}


def factor(schedule: Schedule, epoch: float, epochs: float) -> float:
    """Return what the learning rate is multiplied by at time ``epoch`` of a run of ``epochs``.

    The warm-up rises in a straight line from 0 to the schedule's first value; the schedule begins when it ends, and as often as it has
    cycles.
    """
    formula = FORMULAS[schedule.kind]
    total = (epochs - schedule.warmup) / schedule.cycles
    if epoch < schedule.warmup:
        return formula(0.0, total, schedule) * epoch / schedule.warmup
    since = epoch - schedule.warmup
    begun = min(schedule.cycles - 1, math.floor(since / total + 1e-9))
    return formula(max(0.0, since - begun * total), total, schedule)

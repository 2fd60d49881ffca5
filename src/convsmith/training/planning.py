"""How many updates a run has, in which arithmetic, and what it will cost: from a short timed trial."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from convsmith.training.config import Training
from convsmith.training.feed import Feed
from convsmith.training.schedules import factor
from convsmith.training.updates import Arithmetic, Updater

RESERVE = 0.03
LEAST = 3
"""Updates that tell the pace of a warm network, at least."""

VALIDATION_PART = 0.1


@dataclass(frozen=True)
class Plan:
    """What was decided before the first update, and again where a time budget moved the end.

    From update ``start`` on, the schedule runs in a straight line from ``progress`` (0..1) to 1 at update ``steps``.
    """

    arithmetic: Arithmetic
    steps_per_epoch: int
    steps: int
    validate_every: int
    start: int = 0
    progress: float = 0.0
    shortened: bool = False

    def at(self, step: int) -> float:
        """Return the progress of the schedule at an update, 0 to 1."""
        return self.progress + (1 - self.progress) * (step - self.start) / max(1, self.steps - self.start)

    def rate(self, step: int, config: Training) -> float:
        """Return the learning rate of an update: the schedule at the moment it begins."""
        return config.learning_rate * factor(config.schedule, self.at(step) * config.epochs, config.epochs)

    def ending_at(self, steps: int, step: int) -> Plan:
        """Return the plan that, from update ``step`` on, completes the schedule at another last update."""
        return replace(self, start=step, progress=self.at(step), steps=max(step + 1, steps), shortened=True)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Plan:
        return cls(**{**fields, "arithmetic": Arithmetic(**fields["arithmetic"])})


def candidates(config: Training, device: torch.device) -> tuple[Arithmetic, ...]:
    """Return the arithmetics that the configuration leaves open; the plain one alone where results must repeat bit for bit."""
    plain = "float32" if config.precision == "auto" else config.precision
    if config.kernels == "native":
        return (Arithmetic("float32", config.channels_last is not False),)
    if config.deterministic or config.plan is not None:
        return (Arithmetic(plain, config.channels_last is True),)
    formats = ("float32", "bfloat16") if config.precision == "auto" and _has_bfloat16(device) else (plain,)
    layouts = (True, False) if config.channels_last == "auto" else (config.channels_last,)
    return tuple(Arithmetic(f, layout) for f in formats for layout in layouts)  # type: ignore[arg-type]


def thread_counts(config: Training, device: torch.device) -> tuple[int, ...]:
    """Return the numbers of threads to try: all and one, because small batches and busy processors do better with one. 0 leaves it."""
    every = torch.get_num_threads()
    if config.threads or config.deterministic or device.type != "cpu" or every == 1:
        return (0,)
    return every, 1


def _has_bfloat16(device: torch.device) -> bool:
    """Tell whether the processor multiplies bfloat16 itself; emulating it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capable and capable())


def fastest(
    names: Sequence[Arithmetic], measure: Callable[[Arithmetic], float], budget_s: float, rounds: int = 4
) -> dict[Arithmetic, float]:
    """Return the least seconds of each candidate, measured in turn so that a slow moment hits all of them.

    The first measurement of each, which pays for preparations, does not count. A candidate twice as slow as the best is not tried again,
    and nothing is once ``budget_s`` is spent.
    """
    begin = time.perf_counter()
    for name in names:
        measure(name)
    seconds = {name: measure(name) for name in names}
    for _ in range(rounds - 1):
        for name in names:
            if time.perf_counter() - begin > budget_s:
                return seconds
            if seconds[name] <= 2 * min(seconds.values()):
                seconds[name] = min(seconds[name], measure(name))
    return seconds


def preferred(seconds: dict[Arithmetic, float]) -> Arithmetic:
    """Return the fastest; float32 unless bfloat16 is at least a tenth faster."""
    return min(seconds, key=lambda name: seconds[name] * (1.1 if name.precision == "bfloat16" else 1.0))


def trial(
    module: nn.Module, config: Training, feed: Feed, weights: torch.Tensor | None, teacher: nn.Module | None = None
) -> dict[Arithmetic, float]:
    """Return the seconds of one update in each arithmetic that is open, on a copy of the network."""
    slow = config.model_copy(update={"learning_rate": 1e-8})
    updater = Updater(copy.deepcopy(module), slow, feed.preprocess, weights, axes=feed.colour_axes, teacher=teacher)
    count = len(feed.parts(0))
    # a whole full batch may take minutes: one part of it tells
    share = count if config.batch != "full" else 1
    parts = list(itertools.islice(feed.read(0), share))

    def measure(arithmetic: Arithmetic) -> float:
        updater.compute_in(arithmetic)
        begin = time.perf_counter()
        updater.update(parts, share, feed.size(0), 0, 1e-8)
        return (time.perf_counter() - begin) * count / share

    budget_s = max(1.0, 0.02 * (config.time_s or 0))
    before = torch.get_num_threads()
    arithmetics = candidates(config, updater.device)
    by_threads = fastest([replace(arithmetics[0], threads=n) for n in thread_counts(config, updater.device)], measure, budget_s, rounds=1)
    threads = min(by_threads, key=lambda name: by_threads[name]).threads
    seconds = fastest([replace(arithmetic, threads=threads) for arithmetic in arithmetics], measure, budget_s)
    torch.set_num_threads(before)
    return seconds


def steady(
    module: nn.Module,
    config: Training,
    feed: Feed,
    weights: torch.Tensor | None,
    arithmetic: Arithmetic,
    budget_s: float,
    most: int,
    teacher: nn.Module | None = None,
) -> float:
    """Return the mean seconds of one update once a network has run warm, on a copy of it; at most ``most`` updates within ``budget_s``.

    A trial takes the least of a few, which tells arithmetics apart; the mean pace of an epoch is slower, and the first updates of a network
    of many shapes are slower still (GoogLeNet: 1.35 times after two). The first third of the time does not count.
    """
    slow = config.model_copy(update={"learning_rate": 1e-8})
    updater = Updater(copy.deepcopy(module), slow, feed.preprocess, weights, axes=feed.colour_axes, teacher=teacher)
    parts, before = list(feed.read(0)), torch.get_num_threads()
    updater.compute_in(arithmetic)
    marks = [time.perf_counter()]
    while len(marks) <= max(LEAST, most) and (len(marks) <= LEAST or marks[-1] - marks[0] < budget_s):
        updater.update(parts, len(parts), feed.size(0), 0, 1e-8)
        marks.append(time.perf_counter())
    torch.set_num_threads(before)
    warm = [mark for mark in marks if mark - marks[0] >= (marks[-1] - marks[0]) / 3]
    return (warm[-1] - warm[0]) / (len(warm) - 1) if len(warm) > 1 else marks[-1] - marks[-2]


def make_plan(config: Training, feed: Feed, seconds: dict[Arithmetic, float], val_images: int, left_s: float | None) -> Plan:
    """Return the plan that completes the epochs, or as many updates as ``left_s`` allows."""
    arithmetic = preferred(seconds)
    step_s = seconds[arithmetic]
    steps = max(1, round(config.epochs * feed.steps_per_epoch))
    val_s = validation_steps(val_images, feed) * step_s
    every = config.validate_every
    if not every:
        every = 1 if config.deterministic else max(1, math.ceil(val_s / (VALIDATION_PART * step_s * feed.steps_per_epoch)))
    plan = Plan(arithmetic, feed.steps_per_epoch, steps, every * feed.steps_per_epoch)
    if left_s is None:
        return plan
    allowed = affordable(left_s - RESERVE * (config.time_s or 0.0), step_s, val_s, plan.validate_every)
    return replace(plan, steps=allowed, shortened=True) if allowed < steps else plan


def validation_steps(val_images: int, feed: Feed) -> float:
    """Return what a validation costs, in updates: a third of training per image, because it has no backward pass."""
    return val_images / feed.size(0) / 3


def affordable(usable_s: float, step_s: float, val_s: float, validate_every: int, step: int = 0) -> int:
    """Return the last update that ``usable_s`` from update ``step`` on allows, with the validations on the way and the one at the end."""
    end = step + int((usable_s - val_s) / step_s)
    on_the_way = max(0, (end - 1) // validate_every - step // validate_every)
    return max(step + 1, end - math.ceil(on_the_way * val_s / step_s))


class Pace:
    """Watch the time budget: where the measured pace would miss it, move the end of the run. Looked at every twentieth of what is left.

    ``time_s``: the whole budget, of which ``RESERVE`` stays free to the end. ``val_steps``: what a validation costs, in units of the time
    of an update, until one has been measured.
    """

    LEAST_STEPS = 5
    LOOKS = 20

    def __init__(self, time_s: float = 0.0, val_steps: float = 0.0) -> None:
        self.reserve_s, self.val_steps = RESERVE * time_s, val_steps
        self.val_s: float | None = None
        self.step_s: float | None = None
        self.mark: tuple[int, float] | None = None
        self.next = 0

    def validated(self, seconds: float) -> None:
        """Take note of what a validation took; it is no part of the pace of the updates."""
        self.val_s = seconds
        if self.mark:
            self.mark = (self.mark[0], self.mark[1] + seconds)

    def end(self, plan: Plan, step: int, left_s: float, epochs: float, now: float | None = None) -> int | None:
        """Return the update at which the run should end, None where there is nothing to look at yet.

        The end moves nearer as soon as it would be missed by 2 % of what is left, and away, in the first four fifths, when more than 10 %
        would be left. Half of the pace is that of the last look and half that of those before, so that one slow moment does not end a run.
        """
        if step < self.next:
            return None
        now = time.perf_counter() if now is None else now
        before, self.mark = self.mark, (step, now)
        self.next = step + max(self.LEAST_STEPS, (plan.steps - step) // self.LOOKS)
        if before is None or step >= plan.steps:
            return None
        last_s = (now - before[1]) / (step - before[0])
        self.step_s = last_s if self.step_s is None else (self.step_s + last_s) / 2
        val_s = self.val_steps * self.step_s if self.val_s is None else self.val_s
        limit = max(1, round(epochs * plan.steps_per_epoch))
        steps = min(limit, affordable(left_s - self.reserve_s, self.step_s, val_s, plan.validate_every, step))
        left = plan.steps - step
        late, early = steps - step < 0.98 * left, steps > 1.1 * plan.steps and plan.at(step) < 0.8
        return steps if late or early else plan.steps

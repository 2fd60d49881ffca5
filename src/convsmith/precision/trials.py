"""Trainings tried under plans: each at most once, kept as they end, so that a search that was interrupted goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from convsmith.precision.plan import Plan


@dataclass(frozen=True)
class Outcome:
    """How a training ended: accuracy on ``n`` images it did not see, and loss and accuracy after each epoch.

    ``failed`` says why a training broke off, its loss no number any more; its accuracy is then 0.
    """

    accuracy: float
    n: int
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    failed: str = ""


class Trainer(Protocol):
    """Trains under a plan (None: float32) for a share of a full run, from the same first weights for one seed.

    ``warm``: from weights that float32 training reached early, in place of random ones.
    """

    def __call__(self, plan: Plan | None, share: float, seed: int, warm: bool) -> Outcome: ...


@dataclass(frozen=True)
class Trial:
    """One training and its outcome; ``name`` says what was tried."""

    name: str
    plan: Mapping[str, Any] | None
    share: float
    seed: int
    warm: bool
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        outcome = dict(values["outcome"])
        for name in ("losses", "accuracies"):
            outcome[name] = tuple(outcome[name])
        return cls(**{**values, "outcome": Outcome(**outcome)})


TrialProgress = Callable[[float, float, str], Any]
"""Called before each training with full runs spent, their total (about), and what comes next."""


class Trials:
    """Runs each trial at most once. ``spent`` counts full runs: a training of a tenth of the epochs is a tenth of one."""

    def __init__(
        self,
        train: Trainer,
        total: float,
        progress: TrialProgress | None = None,
        on_trial: Callable[[Trial], Any] | None = None,
        done: Iterable[Trial] = (),
    ) -> None:
        self._train, self._total, self._progress, self._on_trial = train, total, progress, on_trial
        self._known = {_key(t.plan, t.share, t.seed, t.warm): t for t in done}
        self.list: list[Trial] = []
        self._asked: set[str] = set()
        self.spent = 0.0

    def __call__(self, name: str, plan: Plan | None, share: float, seed: int, warm: bool = False) -> Outcome:
        given = None if plan is None else plan.to_dict()
        key = _key(given, share, seed, warm)
        trial = self._known.get(key)
        if trial is None:
            if self._progress:
                self._progress(self.spent, max(self._total, self.spent + share), name)
            trial = Trial(name, given, share, seed, warm, self._train(plan, share, seed, warm))
            self._known[key] = trial
            if self._on_trial:
                self._on_trial(trial)
        if key not in self._asked:
            self._asked.add(key)
            self.list.append(trial)
            self.spent += share
        return trial.outcome


def _key(plan: Mapping[str, Any] | None, share: float, seed: int, warm: bool) -> str:
    import json

    return json.dumps([plan, round(share, 6), seed, warm], sort_keys=True, default=list)

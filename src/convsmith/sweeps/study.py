"""A study that several processes share: how it begins, how a worker takes a trial, and how a killed one's trial comes back.

The trials wait in the database from the beginning, so taking one is one atomic change of its state and their number cannot grow by a race.
A worker that lives raises a counter of its trial every few seconds; who watches it judges by a clock of his own, so clocks need not agree.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import numpy as np

from convsmith.errors import ResourceError, UsageError, near
from convsmith.runs import process
from convsmith.sweeps import space

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

Sampler = Literal["grid", "random", "tpe"]
Direction = Literal["maximize", "minimize"]

#: A worker gives a sign so often; without one for the second time its trial is another's.
BEAT_S, SILENT_S = 5.0, 60.0
#: How often a trial is done again after its worker was killed.
RETRIES = 2
_SPEC, _WORKER, _BEAT, _RETRY_OF, _DEATHS = "convsmith", "worker", "beat", "retry_of", "deaths"


@dataclass(frozen=True)
class Spec:
    """What every worker must know: the verb, its fixed settings, what is varied and how. ``trials``: how many there are in all."""

    verb: str
    settings: Mapping[str, Any]
    over: tuple[str, ...]
    metric: str
    direction: Direction
    sampler: Sampler
    trials: int
    seed: int
    prune: bool

    @property
    def axes(self) -> list[space.Axis]:
        return [space.parse(text) for text in self.over]

    def points(self) -> list[dict[str, Any]]:
        """Return what is fixed of each trial beforehand: all of it in a grid or at random, nothing where results decide."""
        if self.sampler == "grid":
            return space.grid(self.axes)[: self.trials]
        if self.sampler == "random":
            return [{axis.name: axis.draw(np.random.default_rng([self.seed, place])) for axis in self.axes} for place in range(self.trials)]
        return [{} for _ in range(self.trials)]


@dataclass
class Taken:
    """A trial that this process works on."""

    number: int
    trial: optuna.Trial
    values: dict[str, Any]
    attributes: Mapping[str, Any]


@dataclass
class Shared:
    """A study and what it is about. Methods may be called by any number of processes at once."""

    url: str
    name: str
    spec: Spec
    study: optuna.Study
    storage: RDBStorage
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def open_count(self) -> int:
        """Return how many trials wait or run."""
        return sum(not trial.state.is_finished() for trial in self.trials())

    def done_count(self) -> int:
        """Return how many of the trials have come to an end; one that was done again counts once."""
        return self.spec.trials - self.open_count()

    def take(self) -> Taken | None:
        """Take a waiting trial, None when none waits; of several takers one gets it."""
        from optuna.trial import Trial

        waiting = self._claim()
        if waiting is None:
            return None
        self.study.sampler = self._sampler(waiting.number)
        trial = Trial(self.study, self._id(waiting))
        values = {axis.name: axis.suggest(trial) for axis in self.spec.axes}
        return Taken(waiting.number, trial, values, dict(waiting.user_attrs))

    def _claim(self) -> FrozenTrial | None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with self._alone():
            for waiting in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                number = self._id(waiting)
                try:
                    if not self.storage.set_trial_state_values(number, state=TrialState.RUNNING):
                        continue
                except UpdateFinishedTrialError:
                    continue
                self.storage.set_trial_user_attr(number, _WORKER, process.identity())
                return waiting
        return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing a trial's state meanwhile.

        PostgreSQL locks the row that optuna reads; SQLite has no such lock, and two processes were seen to take one trial.
        """
        path = urlsplit(self.url).path[1:] if self.url.startswith("sqlite") else ""
        with lock(Path(f"{path}.lock")) if path else nullcontext():
            yield

    @contextmanager
    def beating(self, taken: Taken, interval_s: float = BEAT_S) -> Iterator[None]:
        """Give a sign of life for a trial while the block runs."""
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(interval_s):
                count += 1
                with suppress(Exception):  # a database that is away for a moment; the next sign may reach it
                    self.storage.set_trial_user_attr(taken.trial._trial_id, _BEAT, count)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def note(self, taken: Taken, **attributes: Any) -> None:
        """Keep something beside a trial: its run, its figures, its error."""
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(taken.trial._trial_id, key, value)

    def tell(self, taken: Taken, value: float | None, *, pruned: bool = False) -> None:
        """Write a trial's result, None for one that failed.

        Raises: UpdateFinishedTrialError of optuna when the study had given the trial to another worker meanwhile.
        """
        from optuna.trial import TrialState

        self.storage.check_trial_is_updatable(taken.trial._trial_id, self.storage.get_trial(taken.trial._trial_id).state)
        if value is not None and not pruned:
            self.study.tell(taken.trial, value)
        else:
            self.study.tell(taken.trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def give_back(self, taken: Taken) -> None:
        """Let a trial wait again, because this worker was asked to stop."""
        self._again(taken.number, counts=False)

    def reap(self) -> list[int]:
        """Let the trials of workers that were killed wait again, and return their numbers.

        A worker of this machine is asked for by its process; of another one its sign must stay away for a minute.
        """
        from optuna.trial import TrialState

        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(_WORKER)
            beat, now = int(trial.user_attrs.get(_BEAT, 0)), time.monotonic()
            before = self.seen.setdefault(trial.number, (beat, now))
            if before[0] != beat:
                before = self.seen[trial.number] = (beat, now)
            if worker is not None and worker.get("host") == process.identity()["host"]:
                lost = not process.alive(worker)  # one that is stopped, or swapped out, lives
            else:
                lost = now - before[1] > SILENT_S
            if lost and self._again(trial.number, counts=True):
                found.append(trial.number)
        return found

    def _again(self, number: int, *, counts: bool) -> bool:
        """End a running trial as failed and add one with the same values that waits; False when another process was first."""
        from optuna.distributions import BaseDistribution
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState, create_trial

        old = next(trial for trial in self.trials() if trial.number == number)
        deaths = int(old.user_attrs.get(_DEATHS, 0)) + counts
        try:
            with self._alone():
                if deaths > RETRIES:
                    told = f"its worker was killed {deaths} times; perhaps memory ran out"
                    self.storage.set_trial_user_attr(self._id(old), "error", told)
                self.storage.set_trial_state_values(self._id(old), state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False
        if deaths > RETRIES:
            return True
        kept = {key: value for key, value in old.user_attrs.items() if key not in (_WORKER, _BEAT)}
        distributions: dict[str, BaseDistribution] = dict(old.distributions)
        fixed = {"fixed_params": old.system_attrs.get("fixed_params", {}) | old.params}
        attributes = kept | {_RETRY_OF: old.user_attrs.get(_RETRY_OF, number), _DEATHS: deaths}
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING, params=old.params, distributions=distributions, user_attrs=attributes, system_attrs=fixed
            )
        )
        return True

    def _id(self, trial: FrozenTrial) -> int:
        return trial._trial_id

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of one trial: its own seed, so that two workers never draw the same."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence([self.spec.seed, number]).generate_state(1)[0])
        if self.spec.sampler != "tpe":
            return RandomSampler(seed=seed)
        start = max(3, min(10, self.spec.trials // 3))
        return TPESampler(seed=seed, n_startup_trials=start, multivariate=True, constant_liar=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which the kernel lets go with the process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def begin(url: str, name: str, spec: Spec) -> Shared:
    """Make a study with its waiting trials, or join the one of that name that was begun with the same settings.

    A process killed while it made them is made up for: the trials are known beforehand, and those that lack are added.
    Raises: UsageError when there is a study of that name with other settings; ResourceError when the database cannot be used.
    """
    storage = _storage(url)
    with _quiet():
        import optuna

        study = optuna.create_study(
            storage=storage, study_name=name, direction=spec.direction, load_if_exists=True, pruner=_pruner(spec), sampler=None
        )
    stored = study.user_attrs.get(_SPEC)
    plain = json.loads(json.dumps(asdict(spec)))
    if stored is not None and stored != plain:
        differs = ", ".join(key for key in plain if plain[key] != stored.get(key))
        raise UsageError(f"there is a study {name!r} already, begun with other settings ({differs}); give another --name")
    points = spec.points()
    if stored is None:
        made = len(study.get_trials(deepcopy=False))
        for point in points[made:]:
            study.enqueue_trial(point)
        study.set_user_attr(_SPEC, plain)
    return Shared(url, name, spec, study, storage)


def join(url: str, name: str | None = None) -> Shared:
    """Open a study that was begun elsewhere; ``name`` may be left out where there is one only.

    Raises: UsageError with the names there are; ResourceError when the database cannot be used.
    """
    storage = _storage(url)
    names = [known.study_name for known in storage.get_all_studies() if _SPEC in storage.get_study_user_attrs(known._study_id)]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        told = f"there is no study {name!r}" if name else f"there are {len(names)} studies"
        listed = ", ".join(names[:10]) or "none that `convsmith sweep` has begun"
        raise UsageError(f"{told} in {shown(url)}; there are: {listed}.{near(name or '', names)}")
    import optuna

    with _quiet():
        study = optuna.load_study(study_name=name, storage=storage)
    stored = study.user_attrs[_SPEC]
    spec = Spec(**{**stored, "over": tuple(stored["over"])})
    with _quiet():
        study.pruner = _pruner(spec)
    return Shared(url, str(name), spec, study, storage)


def require(url: str) -> None:
    """Refuse an address of a database that is not served, or that holds a password: run folders keep addresses.

    Raises: UsageError.
    """
    parts = urlsplit(url)
    if parts.scheme.split("+")[0] not in ("sqlite", "postgresql"):
        raise UsageError(f"--study {shown(url)} is neither sqlite:///FILE nor postgresql://USER@HOST/DATABASE")
    if parts.password or _secret(parts.query):
        raise UsageError(f"--study {shown(url)} holds a password, which a run folder would keep; put it in ~/.pgpass or PGPASSWORD")


def shown(url: str) -> str:
    """Return the address without a password, wherever in it that stands."""
    parts = urlsplit(url)
    address, found = parts.netloc, _secret(parts.query)
    if parts.password:
        user, _, host = address.rpartition("@")
        address = f"{user.partition(':')[0]}:...@{host}"
    query = "&".join(f"{key}=..." if key in found else f"{key}={value}" for key, value in parse_qsl(parts.query, keep_blank_values=True))
    return url if not (parts.password or found) else urlunsplit(parts._replace(netloc=address, query=query))


def _secret(query: str) -> set[str]:
    """Return the options of an address that are passwords."""
    return {key for key, value in parse_qsl(query) if "passw" in key.lower() and value}


def _storage(url: str) -> RDBStorage:
    require(url)
    address = _with_driver(url)
    try:
        with _quiet():
            import optuna
            from optuna.storages import RDBStorage

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
            return RDBStorage(address, engine_kwargs=options)
    except ImportError as error:
        raise UsageError(f"--study {shown(url)} names a database driver that is not installed: {error}") from None
    except Exception as error:
        if not type(error).__module__.startswith("sqlalchemy"):
            raise
        raise ResourceError(f"the study in {shown(url)} cannot be opened: {str(error).splitlines()[0]}") from None


def _with_driver(url: str) -> str:
    """Return the address with a driver that is installed, where it names none: which one is meant then changed with SQLAlchemy 2.1.

    Raises: UsageError when there is none.
    """
    if not url.startswith("postgresql:"):
        return url
    found = next((name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)), None)
    if found is None:
        raise UsageError(f"--study {shown(url)} needs a database driver: pip install 'psycopg[binary]', or psycopg2-binary")
    return url.replace("postgresql:", f"postgresql+{found}:", 1)


def _pruner(spec: Spec) -> optuna.pruners.BasePruner:
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3) if spec.prune else NopPruner()


@contextmanager
def _quiet() -> Iterator[None]:
    """Pass over optuna's words on what it calls experimental; the versions that pyproject.toml allows have these parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def samplers(axes: Sequence[space.Axis]) -> Sampler:
    """Return the sampler for settings that were given without one: all combinations of lists, else TPE."""
    return "grid" if all(axis.is_list for axis in axes) else "tpe"

"""Train a network on labelled images."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from convsmith.data import batches, pixels
from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.training import checkpoints, losses, planning
from convsmith.training.config import Training
from convsmith.training.feed import Feed, fits, pixel_bytes
from convsmith.training.processes import Team, team
from convsmith.training.results import Fit, StoppedBy, peak_memory_bytes
from convsmith.training.scoring import logits_of, slices
from convsmith.training.state import Best, Run, pack, unpack, weights_of
from convsmith.training.surroundings import Interrupt, interrupts, settings
from convsmith.training.updates import Updater

SCORE_BATCH = 256
_MAY_CHANGE = {"checkpoint_s", "workers", "resident", "time_s"}


class Listener(Protocol):
    """What a run folder or any other place must have to be told about the training."""

    def event(self, kind: str, **fields: Any) -> None: ...

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None: ...


class _Silent:
    def event(self, kind: str, **fields: Any) -> None:
        """Forget it."""

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None:
        """Forget it."""


def fit(
    module: nn.Module,
    dataset: Dataset,
    config: Training | None = None,
    *,
    preprocess: Preprocess,
    record: Listener | None = None,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
    checkpoints_in: Path | None = None,
) -> Fit:
    """Train ``module`` in place on the training split, choose the weights by the validation split, and return it with them.

    Checkpoints ``last.pt`` and ``best.pt`` are written into ``checkpoints_in``, else into ``checkpoints`` of the record's folder, else
    nowhere. With ``resume`` the run goes on from ``last.pt`` where there is one, and ends bit for bit as if it had never stopped.
    Ctrl-C ends it after the running update: the result then says ``stopped_by="interrupt"``, and a checkpoint is there.
    The test split is never looked at.

    Raises: UsageError for a network that does not fit the data, a resume with other settings, or a loss that is no longer a number.
    """
    config = config or Training()
    folder = checkpoints_in or (Path(record.folder) / "checkpoints" if hasattr(record, "folder") else None)
    with settings(config), interrupts() as interrupt, team() as processes:
        trainer = _Trainer(module, dataset, config, preprocess, record or _Silent(), progress, folder, interrupt, processes)
        return trainer.train(resume)


class _Trainer:
    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        config: Training,
        preprocess: Preprocess,
        record: Listener,
        progress: Callable[..., None] | None,
        folder: Path | None,
        interrupt: Interrupt,
        processes: Team,
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.preprocess, self.interrupt, self.team = config, preprocess, interrupt, processes
        self.record, self.progress = record if processes.leads else _Silent(), progress if processes.leads else None
        self.last = folder / "last.pt" if folder else None
        self.classes = len(dataset.classes)
        if len(dataset.train) == 0:
            raise UsageError("the training split has no images")
        self.feed = Feed(dataset.train, preprocess, config, processes, lambda done, total: self.tell("load", done, total))
        self.val = dataset.splits.get("val")
        self.weights = losses.class_weights(config, dataset.train.labels, self.classes)
        module.to(device_of(config))
        self.module = module
        self._check_network()
        self.updater = Updater(module, config, preprocess, self.weights, processes)
        self.shadow = copy.deepcopy(module) if config.ema else module
        self._val_x: torch.Tensor | None = None
        self.saved_at = time.perf_counter()
        self.disk_bytes = 0
        self.replan_at = 0
        self.pace: tuple[int, float] = (0, 0.0)

    def tell(self, stage: str, done: float, total: float, **fields: Any) -> None:
        self.record.progress(stage, done, total, **fields)
        if self.progress:
            self.progress(stage, done, total, **fields)

    def train(self, resume: bool) -> Fit:
        run = self._begin(resume)
        self.elapsed_before = run.elapsed_s
        stopped: StoppedBy = "epochs"
        self.module.train()
        while run.step < run.plan.steps:
            self._update(run)
            if run.step % run.plan.steps_per_epoch == 0 or run.step == run.plan.steps:
                self._epoch_end(run)
            if self.config.patience and run.stale >= self.config.patience:
                stopped = "patience"
                break
            if self.team.any(self.interrupt.pressed):
                stopped = "interrupt"
                break
            self._replan(run)
            if time.perf_counter() - self.saved_at >= self.config.checkpoint_s:
                self._save(run)
        self._save(run)
        return self._finish(run, "time" if stopped == "epochs" and run.plan.shortened else stopped)

    def _begin(self, resume: bool) -> Run:
        if resume and self.last and self.last.exists():
            state = checkpoints.load(self.last)
            self._same(state["identity"])
            run = unpack(state, self.updater)
            self.record.event("resume", step=run.step, epoch=run.step / run.plan.steps_per_epoch)
            return run
        seconds = self.team.first(planning.trial(self.module, self.config, self.feed, self.weights))
        left_s = self.config.time_s - self._spent() if self.config.time_s else None
        plan = planning.make_plan(self.config, self.feed, seconds, len(self.val) if self.val else 0, left_s)  # type: ignore[arg-type]
        plan = self.team.first(plan)  # type: ignore[assignment]
        self.updater.compute_in(plan.arithmetic)
        measured = {str(name): round(value, 6) for name, value in seconds.items()}  # type: ignore[attr-defined]
        self.record.event("plan", **{**plan.to_dict(), "step_s": measured})
        return Run(plan)

    def _spent(self) -> float:
        return time.perf_counter() - self.began

    def _update(self, run: Run) -> None:
        size, step = self.feed.size(run.step), run.step
        rate = run.plan.rate(step, self.config)
        loss, correct = self.updater.update(self.feed.read(step), len(self.feed.parts(step)), size, step, rate)
        if self.team.any(not math.isfinite(loss)):
            raise UsageError(self._diverged(step, run, rate))
        run.step, run.seen = step + 1, run.seen + size
        run.loss_sum, run.correct = run.loss_sum + loss, run.correct + correct
        self.tell("train", run.step, run.plan.steps, loss=loss * self.team.size / size, epoch=run.step / run.plan.steps_per_epoch)

    def _diverged(self, step: int, run: Run, rate: float) -> str:
        fixes = [f"a learning rate ten times smaller (learning_rate={self.config.learning_rate / 10:g})"]
        if not self.config.clip:
            fixes.append("gradient clipping (clip=1)")
        if run.plan.arithmetic.precision == "bfloat16":
            fixes.append("precision=float32")
        epoch = step / run.plan.steps_per_epoch
        return (
            f"the loss is no longer a number at update {step + 1} (epoch {epoch:.2f}, learning rate {rate:.4g}); try {', or '.join(fixes)}"
        )

    def _epoch_end(self, run: Run) -> None:
        sums = self.team.total(torch.tensor([run.loss_sum, float(run.correct)], dtype=torch.float64))
        page: dict[str, Any] = {
            "epoch": run.step / run.plan.steps_per_epoch,
            "step": run.step,
            "loss": float(sums[0]) / run.seen,
            "accuracy": float(sums[1]) / run.seen,
            "rate": run.plan.rate(run.step - 1, self.config),
        }
        run.loss_sum, run.correct, run.seen = 0.0, 0, 0
        if run.step % run.plan.validate_every == 0 or run.step == run.plan.steps:
            self._validate(run, page)
        page["seconds"] = self.elapsed_before + self._spent()
        run.history.append(page)
        self.record.event("epoch", **page)

    def _validate(self, run: Run, page: dict[str, Any]) -> None:
        source = self.updater.ema.weights if self.updater.ema else self.module.state_dict()
        if not self.val or len(self.val) == 0:
            run.best = Best(page["accuracy"], page["loss"], run.step, weights_of(source))
            return
        if self.updater.ema:
            self.shadow.load_state_dict(source)
        page["val_loss"], page["val_accuracy"] = self._val_scores(run)
        run.stale = 0 if page["val_accuracy"] > run.best.accuracy else run.stale + 1
        if page["val_accuracy"] >= run.best.accuracy:
            run.best = Best(page["val_accuracy"], page["val_loss"], run.step, weights_of(source))
            self._save_best(run)

    def _val_scores(self, run: Run) -> tuple[float, float]:
        """Return mean loss and accuracy on the validation images; each process takes its part of them."""
        assert self.val is not None
        n = len(self.val)
        start, stop = (n * self.team.rank // self.team.size, n * (self.team.rank + 1) // self.team.size)
        if self._val_x is None and fits(pixel_bytes(self.val, self.preprocess)):
            self._val_x = torch.from_numpy(pixels(self.val, self.preprocess, workers=self.config.workers))
        if self._val_x is not None:
            images = slices(self._val_x[start:stop], SCORE_BATCH)
        else:
            order = torch.arange(start, stop).numpy()
            stream = batches(self.val, self.preprocess, SCORE_BATCH, order=order, workers=self.config.workers)
            images = (torch.from_numpy(x) for x, _, _ in stream)
        logits = logits_of(self.shadow, images, self.preprocess, channels_last=run.plan.arithmetic.channels_last)
        labels = torch.from_numpy(self.val.labels[start:stop].copy())
        weights = None if self.weights is None else self.weights.cpu()
        loss = losses.per_image(logits, labels, self.config, weights).double().sum()
        sums = self.team.total(torch.stack([loss, (logits.argmax(1) == labels).double().sum()]))
        return float(sums[0]) / n, float(sums[1]) / n

    def _replan(self, run: Run) -> None:
        """Move the end of the run where the measured pace would miss the time budget; looked at some twenty times in a run."""
        if self.config.time_s is None or run.step < self.replan_at:
            return
        now = time.perf_counter()
        if self.pace[0]:
            left_s = self.config.time_s * (1 - planning.RESERVE) - self.elapsed_before - self._spent()
            step_s = (now - self.pace[1]) / (run.step - self.pace[0])
            limit = max(1, round(self.config.epochs * run.plan.steps_per_epoch))
            steps = self.team.first(min(limit, run.step + max(1, int(left_s / step_s))))
            assert isinstance(steps, int)
            if steps < 0.98 * run.plan.steps or (steps > 1.1 * run.plan.steps and run.plan.at(run.step) < 0.5):
                run.plan = run.plan.ending_at(steps, run.step)
                self.record.event("replan", step=run.step, steps=run.plan.steps, step_s=step_s)
        self.pace = (run.step, now)
        self.replan_at = run.step + max(5, (run.plan.steps - run.step) // 20)

    def _save(self, run: Run) -> None:
        self.saved_at = time.perf_counter()
        if self.last is None or not self.team.leads:
            return
        run.elapsed_s = self.elapsed_before + self._spent()
        size = checkpoints.save(pack(run, self.updater, self._identity()), self.last)
        self.disk_bytes = max(self.disk_bytes, size + self._best_bytes())

    def _save_best(self, run: Run) -> None:
        if self.last is None or not self.team.leads:
            return
        best = run.best
        checkpoints.save(
            {"model": best.weights, "accuracy": best.accuracy, "loss": best.loss, "step": best.step}, self.last.with_name("best.pt")
        )

    def _best_bytes(self) -> int:
        best = self.last.with_name("best.pt") if self.last else None
        return best.stat().st_size if best and best.exists() else 0

    def _identity(self) -> dict[str, Any]:
        labels = hashlib.sha256(self.feed.labels.numpy().tobytes()).hexdigest()
        return {"config": self.config.model_dump(mode="json"), "labels": labels, "preprocess": self.preprocess.to_dict()}

    def _same(self, before: dict[str, Any]) -> None:
        now = self._identity()
        for key, value in now["config"].items():
            was = before["config"].get(key)
            if key not in _MAY_CHANGE and _plain(was) != _plain(value):
                raise UsageError(f"the run to resume has {key}={was!r}, now it is {value!r}; resume with the same, or start a new run")
        if before["labels"] != now["labels"] or _plain(before["preprocess"]) != _plain(now["preprocess"]):
            raise UsageError(
                "the run to resume was trained on other images or another input size; resume with the same, or start a new run"
            )

    def _check_network(self) -> None:
        """Run two images through, so that a network that does not fit the data is refused before anything is timed."""
        shape = (2, self.preprocess.height, self.preprocess.width, self.preprocess.channels)
        given = f"{shape[3]} channels of {shape[1]}x{shape[2]} pixels"
        try:
            logits = logits_of(self.module, [torch.zeros(shape, dtype=torch.uint8)], self.preprocess)
        except RuntimeError as error:
            raise UsageError(f"the network cannot read {given}: {error}") from error
        if logits.shape != (2, self.classes):
            raise UsageError(
                f"the network gives {tuple(logits.shape)[1:]} scores an image for {self.classes} classes; build it with classes={self.classes}"
            )

    def _finish(self, run: Run, stopped: StoppedBy) -> Fit:
        self.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if run.best.weights:
            self.module.load_state_dict(run.best.weights)
        self.module.eval()
        advice = ""
        if stopped == "interrupt":
            advice = f"resume from {self.last} with resume=True" if self.last else "no checkpoint was written: fit had no folder for one"
        seconds = self.elapsed_before + self._spent()
        self.record.event("trained", stopped_by=stopped, steps=run.step, best_accuracy=run.best.accuracy, seconds=seconds)
        epoch_steps = run.plan.steps_per_epoch
        return Fit(
            module=self.module,
            history=tuple(run.history),
            best_accuracy=run.best.accuracy,
            best_epoch=run.best.step / epoch_steps,
            epochs_done=run.step / epoch_steps,
            steps_done=run.step,
            seconds=seconds,
            stopped_by=stopped,
            plan=run.plan,
            memory_bytes=peak_memory_bytes(),
            disk_bytes=self.disk_bytes,
            checkpoint=self.last if self.last and self.last.exists() else None,
            advice=advice,
        )


def device_of(config: Training) -> torch.device:
    """Return where the configuration computes; a GPU that is not there is refused."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is cuda, and torch sees no GPU; set device=cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def _plain(value: Any) -> Any:
    """Return the value with tuples as lists, as it is after a file."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

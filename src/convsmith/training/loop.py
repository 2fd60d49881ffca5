"""Train a network on labelled images."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.errors import DivergenceError, UsageError
from convsmith.training import checkpoints, losses, planning, snapshots
from convsmith.training.config import Training
from convsmith.training.convolution_ways import CHOICES
from convsmith.training.feed import Feed
from convsmith.training.identity import identity, require_same
from convsmith.training.listening import Listener, Voice, checkpoint_folder
from convsmith.training.native_convolution import native_convolutions
from convsmith.training.network import check_fits, device_of
from convsmith.training.processes import Team, team
from convsmith.training.results import Fit, StoppedBy, peak_memory_bytes
from convsmith.training.state import Best, Run, pack, unpack, weights_of
from convsmith.training.surroundings import Interrupt, interrupts, settings, trim_heap
from convsmith.training.updates import Updater
from convsmith.training.validation import Validation


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
    teacher: nn.Module | None = None,
) -> Fit:
    """Train ``module`` in place on the training split, choose the weights by the validation split, and return it with them.

    Checkpoints ``last.pt`` and ``best.pt`` are written into ``checkpoints_in``, else into ``checkpoints`` of the record's folder, else
    nowhere. With ``resume`` the run goes on from ``last.pt`` where there is one, and ends bit for bit as if it had never stopped.
    Ctrl-C ends it after the running update: the result then says ``stopped_by="interrupt"``, and a checkpoint is there.
    The test split is never looked at. ``teacher``: a network whose scores the settings ``distil`` and ``temperature`` compare with.

    Raises: UsageError for a network that does not fit the data, or a resume with other settings; DivergenceError, one of them, for a
    loss that is no longer a number.
    """
    config = config or Training()
    folder = checkpoint_folder(record, checkpoints_in)
    with settings(config), team() as processes, kernels_of(module, config):
        voice = Voice(record, progress) if processes.leads else Voice(None, None)
        trainer = _Trainer(module, dataset, config, preprocess, voice, folder, processes, taught_by(teacher, config))
        run = trainer.begin(resume)
        with interrupts() as interrupt:
            stopped = trainer.train(run, interrupt)
        if config.kernels == "native":
            voice.event("kernels", layers=CHOICES.table())
        return trainer.finish(run, stopped)


def taught_by(teacher: nn.Module | None, config: Training) -> nn.Module | None:
    """Return the teacher where it computes; settings that need one without it are refused."""
    if config.distil and teacher is None:
        raise UsageError(f"distil is {config.distil:g}, and there is no teacher to compare with; give fit(teacher=...) or set distil=0")
    return None if teacher is None else teacher.to(device_of(config)).eval()


def kernels_of(module: nn.Module, config: Training) -> AbstractContextManager[None]:
    if config.kernels == "torch":
        return nullcontext()
    return native_convolutions(module, deterministic=config.deterministic)


class _Trainer:
    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        config: Training,
        preprocess: Preprocess,
        voice: Voice,
        folder: Path | None,
        team: Team,
        teacher: nn.Module | None = None,
    ) -> None:
        self.began = self.saved_at = self.fed_at = time.perf_counter()
        self.config, self.voice, self.team = config, voice, team
        self.folder = folder if team.leads else None
        self.resume_from = folder / "last.pt" if folder else None
        self.module = module.to(device_of(config))
        check_fits(module, preprocess, len(dataset.classes), len(dataset.train), config)
        self.feed = Feed(dataset.train, preprocess, config, team, lambda done, total: voice.progress("load", done, total))
        self.weights = losses.class_weights(config, dataset.train.labels, len(dataset.classes))
        val = dataset.splits.get("val")
        self.validation = Validation(val, preprocess, config, self.weights, team) if val is not None and len(val) else None
        self.updater = Updater(module, config, preprocess, self.weights, team, self.feed.colour_axes, teacher)
        self.shadow = copy.deepcopy(module) if (config.ema or config.transfer.blend) and config.plan is None else module
        self.identity = identity(config, dataset.train, preprocess)
        val_images = len(self.validation.split) if self.validation else 0
        self.pace = planning.Pace(config.time_s or 0.0, planning.validation_steps(val_images, self.feed))
        self.elapsed_before = 0.0
        self.file_bytes: dict[str, int] = {}

    def seconds(self) -> float:
        """Return the time of the whole run, pieces before a resume included."""
        return self.elapsed_before + time.perf_counter() - self.began

    def begin(self, resume: bool) -> Run:
        if resume and self.resume_from and self.resume_from.exists():
            state = checkpoints.load(self.resume_from)
            require_same(state["identity"], self.identity)
            run = unpack(state, self.updater)
            self.elapsed_before = run.elapsed_s
            self.voice.event("resume", step=run.step, epoch=run.epoch)
            return run
        seconds = self.team.first(planning.trial(self.module, self.config, self.feed, self.weights, self.updater.teacher))
        trim_heap()
        left_s = None if self.config.time_s is None else self.config.time_s - self.seconds()
        val_images = len(self.validation.split) if self.validation else 0
        plan = self.team.first(planning.make_plan(self.config, self.feed, seconds, val_images, left_s))
        self.updater.compute_in(plan.arithmetic)
        if self.updater.emulated:
            self.voice.event("formats", table=self.updater.emulated.table())
        self.voice.event("plan", **plan.to_dict(), step_s={str(name): round(value, 6) for name, value in seconds.items()})
        return Run(plan)

    def train(self, run: Run, interrupt: Interrupt) -> StoppedBy:
        self.module.train()
        self.fed_at = time.perf_counter()
        self.feed.take_waits()
        self.updater.take_preparing()
        while (stopped := self._stops(run, interrupt)) is None:
            self._update(run)
            self._keep(run)
            if run.step % run.plan.steps_per_epoch == 0 or run.step == run.plan.steps:
                self._end_epoch(run)
            self._replan(run)
            if time.perf_counter() - self.saved_at >= self.config.checkpoint_s:
                self._save(run)
        self._save(run)
        return stopped

    def _stops(self, run: Run, interrupt: Interrupt) -> StoppedBy | None:
        if run.step >= run.plan.steps:
            return "time" if run.plan.shortened else "epochs"
        if self.config.patience and run.stale >= self.config.patience:
            return "patience"
        return "interrupt" if self.team.any(interrupt.pressed) else None

    def _update(self, run: Run) -> None:
        step, size, rate = run.step, self.feed.size(run.step), run.plan.rate(run.step, self.config)
        loss, correct = self.updater.update(self.feed.read(step), len(self.feed.parts(step)), size, step, rate, run.plan.at(step))
        if self.team.any(not math.isfinite(loss)):
            raise DivergenceError(_divergence(self.config, run, rate))
        run.step, run.seen = step + 1, run.seen + size
        run.loss_sum, run.correct = run.loss_sum + loss, run.correct + correct
        self.voice.progress("train", run.step, run.plan.steps, loss=loss * self.team.size / size, epoch=run.epoch)

    def _end_epoch(self, run: Run) -> None:
        loss, right = (self.team.total(torch.tensor([run.loss_sum, run.correct], dtype=torch.float64)) / run.seen).tolist()
        rate = run.plan.rate(run.step - 1, self.config)
        page: dict[str, Any] = {"epoch": run.epoch, "step": run.step, "loss": loss, "accuracy": right, "lr": rate}
        run.loss_sum, run.correct, run.seen = 0.0, 0, 0
        if self.updater.emulated:
            signs = self.updater.emulated.counters.learning(run.step - run.plan.steps_per_epoch)
            page |= {} if signs is None else asdict(signs)
            self.updater.emulated.end_epoch(loss)
        if run.step % run.plan.validate_every == 0 or run.step == run.plan.steps:
            self._validate(run, page)
        page["seconds"] = self.seconds()
        self._tell_waiting()
        run.history.append(page)
        self.voice.event("epoch", **page)

    def _tell_waiting(self) -> None:
        """Tell how long the training waited for, changed and copied images since the last epoch, and what the decoding threads did."""
        now, waits = time.perf_counter(), self.feed.take_waits()
        elapsed = now - self.fed_at
        preparing = {name: round(seconds, 4) for name, seconds in vars(self.updater.take_preparing()).items()}
        self.voice.event("feed", elapsed_s=round(elapsed, 4), resident=self.feed.resident, **waits.to_dict(), **preparing)
        self.fed_at = now

    def _validate(self, run: Run, page: dict[str, Any]) -> None:
        source = self.updater.answering()
        phase = self.updater.emulated.clock.phase if self.updater.emulated else 0
        if phase != run.best.phase:
            run.best, run.stale = Best(phase=phase), 0
        loss, accuracy = page["loss"], page["accuracy"]
        if self.validation:
            began = time.perf_counter()
            loss, accuracy = self._measure(self.validation, run)
            page |= {"val_loss": loss, "val_accuracy": accuracy}
            self.pace.validated(time.perf_counter() - began)
        run.stale = 0 if accuracy > run.best.accuracy else run.stale + 1
        if accuracy >= run.best.accuracy:
            run.best = Best(accuracy, loss, run.step, weights_of(source), phase)
            best = run.best
            self._write("best.pt", {"model": best.weights, "accuracy": best.accuracy, "loss": best.loss, "step": best.step})

    def _measure(self, validation: Validation, run: Run) -> tuple[float, float]:
        """Return loss and accuracy of the weights, or of their running mean, which a plan's rules read as they read weights."""
        ema, emulated, channels_last = self.updater.ema, self.updater.emulated, run.plan.arithmetic.channels_last
        if emulated:
            with ema.lent(self.module) if ema else nullcontext():
                return validation.measure(emulated, channels_last=channels_last)
        if self.shadow is not self.module:
            self.shadow.load_state_dict(self.updater.answering())
        return validation.measure(self.shadow, channels_last=channels_last)

    def _replan(self, run: Run) -> None:
        if self.config.time_s is None:
            return
        steps = self.pace.end(run.plan, run.step, self.config.time_s - self.seconds(), self.config.epochs)
        if steps is not None and (steps := self.team.first(steps)) != run.plan.steps:
            run.plan = run.plan.ending_at(steps, run.step)
            self.voice.event("replan", step=run.step, steps=steps)

    def _keep(self, run: Run) -> None:
        """Write the weights, or their running mean, where a snapshot is due after this update."""
        count = self.config.snapshots
        number = snapshots.due(run.plan.at(run.step), count)
        if self.folder and number > snapshots.due(run.plan.at(run.step - 1), count):
            source = self.updater.answering()
            name = snapshots.path(self.folder, number).name
            self._write(name, {"model": weights_of(source), "step": run.step})
            self.voice.event("snapshot", file=name, epoch=run.epoch)

    def _save(self, run: Run) -> None:
        self.saved_at = time.perf_counter()
        run.elapsed_s = self.seconds()
        self._write("last.pt", pack(run, self.updater, self.identity))

    def _write(self, name: str, state: checkpoints.State) -> None:
        if self.folder:
            self.file_bytes[name] = checkpoints.save(state, self.folder / name)

    def finish(self, run: Run, stopped: StoppedBy) -> Fit:
        self.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if run.best.weights:
            self.module.load_state_dict(run.best.weights)
        self.updater.close()
        self.module.eval()
        seconds = self.seconds()
        self.voice.event("trained", stopped_by=stopped, step=run.step, best_accuracy=run.best.accuracy, seconds=seconds)
        emulated = self.updater.emulated
        return Fit(
            module=self.module,
            network=emulated.eval() if emulated else self.module,
            counts=tuple(emulated.counters.to_list()) if emulated else (),
            history=tuple(run.history),
            best_accuracy=run.best.accuracy,
            best_epoch=run.best.step / run.plan.steps_per_epoch,
            epochs_done=run.epoch,
            steps_done=run.step,
            seconds=seconds,
            stopped_by=stopped,
            plan=run.plan,
            memory_bytes=peak_memory_bytes(),
            disk_bytes=sum(self.file_bytes.values()),
            checkpoint=self.resume_from,
        )


def _divergence(config: Training, run: Run, rate: float) -> str:
    fixes = [f"a learning rate ten times smaller (learning_rate={config.learning_rate / 10:g})"]
    if not config.clip:
        fixes.append("gradient clipping (clip=1)")
    if run.plan.arithmetic.precision == "bfloat16":
        fixes.append("precision=float32")
    return (
        f"the loss is no longer a number at update {run.step + 1} (epoch {run.epoch:.2f}, learning rate {rate:.4g}); "
        f"try {', or '.join(fixes)}"
    )

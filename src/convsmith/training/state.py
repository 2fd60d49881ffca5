"""All of a run that must survive a kill. Random numbers are functions of the step, so the step is all of their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from convsmith.training.checkpoints import State
from convsmith.training.planning import Plan
from convsmith.training.updates import Updater

Weights = dict[str, torch.Tensor]


@dataclass
class Best:
    """The weights of the best validation: highest accuracy; of equals the last, whose learning rate was lowest.

    ``phase``: of a plan; what was best in the formats of an earlier one does not count.
    """

    accuracy: float = -1.0
    loss: float = float("inf")
    step: int = 0
    weights: Weights = field(default_factory=dict)
    phase: int = 0


@dataclass
class Run:
    """Where a run is. ``loss_sum``, ``correct`` and ``seen`` add up since the last record of ``history``."""

    plan: Plan
    step: int = 0
    best: Best = field(default_factory=Best)
    history: list[dict[str, Any]] = field(default_factory=list)
    stale: int = 0
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0

    @property
    def epoch(self) -> float:
        return self.step / self.plan.steps_per_epoch


def weights_of(source: Mapping[str, torch.Tensor]) -> Weights:
    """Return a copy of a state dict on the processor."""
    return {name: value.detach().to("cpu", copy=True) for name, value in source.items()}


def pack(run: Run, updater: Updater, identity: dict[str, Any]) -> State:
    """Return the state as plain containers and tensors, which torch loads without executing anything."""
    fields = {name: getattr(run, name) for name in ("step", "history", "stale", "elapsed_s", "loss_sum", "correct", "seen")}
    return {
        **fields,
        "identity": identity,
        "plan": run.plan.to_dict(),
        "best": vars(run.best),
        "model": updater.module.state_dict(),
        "optimizer": updater.optimizer.state_dict(),
        "emulation": updater.emulated.get_extra_state() if updater.emulated else None,
        "ema": updater.ema.weights if updater.ema else None,
        "first": updater.first,
    }


def unpack(state: State, updater: Updater) -> Run:
    """Put network, optimizer and running mean back and return where the run was."""
    plan = Plan.from_dict(state["plan"])
    updater.compute_in(plan.arithmetic)
    updater.module.load_state_dict(state["model"])
    updater.optimizer.load_state_dict(state["optimizer"])
    if updater.emulated:
        updater.emulated.set_extra_state(state["emulation"])
    if updater.ema:
        for name, value in state["ema"].items():
            updater.ema.weights[name].copy_(value)
    if updater.first is not None:
        updater.first = {name: value.to(updater.device) for name, value in state["first"].items()}
    fields = {name: state[name] for name in ("step", "history", "stale", "elapsed_s", "loss_sum", "correct", "seen")}
    return Run(plan=plan, best=Best(**state["best"]), **fields)

"""Training runs under a plan of number formats: exact resume, what is refused, what is recorded."""

from __future__ import annotations

import signal

import pytest
import torch
from pydantic import ValidationError

from convsmith import precision, training
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.precision import LossScale, Phase, Plan, Rule, Start
from convsmith.training import Training

EXAMPLE = (1, 8, 8)
FORMATS = Plan(
    (
        *(Rule("*", role, Format.fixed(3, 13), rounding="stochastic") for role in ("weight", "bias", "update", "momentum", "error")),
        Rule("*", "activation", Format.fixed(5, 11), rounding="stochastic", scale="dynamic", interval=4),
    ),
    "fixed",
    master=False,
    loss_scale=LossScale("static", 8.0),
    phases=(Phase(Start("epoch", 2), (Rule("*", "weight", Format.fixed(3, 17)),)),),
)


def settings(plan: Plan | None, **more) -> Training:
    return Training(
        epochs=3, batch=16, learning_rate=0.05, deterministic=True, checkpoint_s=0, threads=1, augment={}, count_every=3,
        plan=None if plan is None else plan.to_dict(), **more,
    )  # fmt: skip


class Stop:
    """A listener that presses Ctrl-C after some updates."""

    def __init__(self, after: int) -> None:
        self.after, self.events = after, []

    def progress(self, stage: str, done: int, total: int, **more) -> None:
        if stage == "train" and done == self.after:
            signal.raise_signal(signal.SIGINT)

    def event(self, kind: str, **fields) -> None:
        self.events.append((kind, fields))


def test_a_run_resumes_bit_for_bit(make_net, dataset, preprocess, tmp_path) -> None:
    whole = training.fit(make_net(dropout=0.1), dataset, settings(FORMATS), preprocess=preprocess, checkpoints_in=tmp_path / "one")
    ears = Stop(after=16)
    half = training.fit(
        make_net(dropout=0.1), dataset, settings(FORMATS), preprocess=preprocess, record=ears, checkpoints_in=tmp_path / "two"
    )
    assert half.stopped_by == "interrupt" and half.steps_done == 16
    done = training.fit(
        make_net(dropout=0.1, seed=9), dataset, settings(FORMATS), preprocess=preprocess, checkpoints_in=tmp_path / "two", resume=True
    )
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, done.module.state_dict()[name]), name
    assert [page["loss"] for page in whole.history] == [page["loss"] for page in done.history]
    assert whole.counts == done.counts and {row["step"] for row in done.counts} == {0, 3, 6, 9, 12, 15, 18}
    table = dict(ears.events)["formats"]["table"]
    assert "fixed<5,11>" in table and "MaxPool" not in table
    assert whole.network is not whole.module and not whole.network.training


def test_the_stored_weights_are_those_of_the_format(make_net, dataset, preprocess) -> None:
    plan = Plan(FORMATS.rules, master=False)
    done = training.fit(make_net(), dataset, settings(plan), preprocess=preprocess)
    for name, value in done.module.state_dict().items():
        assert (value * 2**13 == (value * 2**13).round()).all(), name
    assert done.history[-1]["loss"] < 0.5 * done.history[0]["loss"]


def test_a_float32_plan_changes_no_bit(make_net, dataset, preprocess) -> None:
    plain = training.fit(make_net(norm=True), dataset, settings(None), preprocess=preprocess)
    planned = training.fit(make_net(norm=True), dataset, settings(Plan()), preprocess=preprocess)
    for name, value in plain.module.state_dict().items():
        assert torch.equal(value, planned.module.state_dict()[name]), name
    assert plain.network is plain.module and plain.counts == ()


def test_what_a_plan_excludes(make_net, dataset, preprocess) -> None:
    with pytest.raises(ValidationError, match="a plan is emulated in float32; leave precision at auto or float32"):
        settings(Plan(), precision="bfloat16")
    with pytest.raises(UsageError, match=r"a rule has no field 'rol'"):
        Training(plan={"version": 2, "rules": [{"layer": "*", "rol": "weight", "format": "int8"}]})
    other = Plan((Rule("conv9", "weight", Format.fixed(2, 6)),))
    with pytest.raises(UsageError, match=r"rule 1 \('conv9', weight\) matches nothing; layers with a tensor of that role are 0, 6"):
        training.fit(make_net(), dataset, settings(other), preprocess=preprocess)


def test_the_running_mean_is_read_as_weights_are(make_net, dataset, preprocess, tmp_path) -> None:
    """Validation under a plan with ema is that of the mean of the stored weights, rounded when read; training does not see it."""
    plan = Plan((Rule("*", "weight", Format.fixed(3, 5)), Rule("*", "activation", Format.fixed(5, 5))))
    with_mean = training.fit(make_net(), dataset, settings(plan, ema=0.5), preprocess=preprocess, checkpoints_in=tmp_path / "mean")
    without = training.fit(make_net(), dataset, settings(plan), preprocess=preprocess, checkpoints_in=tmp_path / "none")
    assert [page["loss"] for page in with_mean.history] == [page["loss"] for page in without.history]
    assert any(a["val_loss"] != b["val_loss"] for a, b in zip(with_mean.history, without.history, strict=True))
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("mean", "none")]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    best = torch.load(tmp_path / "mean" / "best.pt", weights_only=True)
    if best["step"] == with_mean.steps_done:
        for name, value in best["model"].items():
            assert torch.equal(value, states[0]["ema"][name]), name
    scored = precision.emulate(with_mean.module, plan, torch.zeros(2, *EXAMPLE)).eval()
    x = torch.rand(4, *EXAMPLE)
    assert torch.equal(scored(x), with_mean.network(x)), "the network that comes back has the mean, under the plan"


def test_a_plan_and_given_weights(make_net, dataset, preprocess) -> None:
    """Transfer under a plan: what is frozen stays in its stored format bit for bit, what learns moves."""
    plan = Plan(FORMATS.rules, master=False)
    first = training.fit(make_net(), dataset, settings(plan), preprocess=preprocess)
    start = {name: value.clone() for name, value in first.module.state_dict().items()}
    more = settings(plan, transfer={"strategy": "linear"})
    done = training.fit(first.module, dataset, more, preprocess=preprocess)
    names = list(start)
    moved = {name for name in names if not torch.equal(start[name], done.module.state_dict()[name])}
    assert moved and all(name.startswith(names[-1].split(".")[0]) for name in moved)
    for value in done.module.state_dict().values():
        assert (value * 2**13 == (value * 2**13).round()).all()
    assert done.history[-1]["loss"] <= first.history[0]["loss"]

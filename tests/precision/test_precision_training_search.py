"""The search for the bits of training and of schedules, on made-up trainers with known borders, and on real ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from precision_nets import residual_graph

from convsmith.errors import UsageError
from convsmith.formats import Format, parse
from convsmith.precision import Phase, Plan, Rule, Start
from convsmith.precision.growth import depth_and_width, error_growth, stored_and_summed
from convsmith.precision.moments import BITS, MOMENTS, fewest, format_of, moment_plan, trace
from convsmith.precision.schedules import compare_schedules, hypothesis, switching
from convsmith.precision.training_cost import training_work
from convsmith.precision.training_search import ROLES, Setting, find_training_plan, uniform_training
from convsmith.precision.trials import Outcome, Trial, Trials
from convsmith.precision.variance_retention import significand_bits

LADDER = ["e8m10", "e8m7", "e6m5", "e5m4", "e5m2"]
NEEDS = {"weight": 14, "activation": 9, "error": 10, "weight_gradient": 12, "momentum": 16, "update": 14}
"""Bits below which a made-up training loses accuracy."""


class MadeUp:
    """Loses two points for each role that is narrower than it needs, plus noise of the seed."""

    def __init__(self, needs: dict[str, int], noise: float = 0.0, together: float = 0.0) -> None:
        self.needs, self.noise, self.together = needs, noise, together
        self.asked: list[tuple[str, float, int, bool]] = []

    def __call__(self, plan: Plan | None, share: float, seed: int, warm: bool) -> Outcome:
        self.asked.append(("float32" if plan is None else plan.name, share, seed, warm))
        bits = {rule.role: rule.format.bits for rule in plan.rules if rule.format} if plan else {}
        lost = sum(2.0 for role, least in self.needs.items() if bits.get(role, 32) < least)
        lost += self.together if len(bits) > 3 and max(bits.values()) < 19 else 0.0
        accuracy = 95 - lost + self.noise * (seed - 1) * (plan is not None)
        return Outcome(accuracy / 100, 100_000, (1.0, 0.5), (0.5, accuracy / 100))


def cost(plan: Plan | None) -> float:
    return 32.0 * 6 if plan is None else float(sum(r.format.bits for r in plan.rules if r.format and r.role != "bias"))


def test_each_role_gets_the_fewest_bits_it_needs() -> None:
    train = MadeUp(NEEDS)
    found = find_training_plan(train, cost, 0.5, ladder=LADDER)
    widths = [parse(f).bits for f in LADDER]
    wanted = {role: min(b for b in widths if b >= least) for role, least in NEEDS.items()}
    assert found.setting is not None and found.setting.bits == wanted
    assert found.drops == pytest.approx((0, 0, 0)) and found.interval is not None and found.interval.times == 3
    full = [ask for ask in train.asked if ask[1] == 1.0]
    assert {ask[2] for ask in full} == {0, 1, 2} and not any(ask[3] for ask in full)
    assert len(set(train.asked)) == len(train.asked), "nothing is trained twice"
    assert found.spent == pytest.approx(sum(share for _, share, _, _ in train.asked))
    assert found.costs[0] == cost(found.plan) < found.costs[1]


def test_roles_that_hold_alone_and_fail_together_are_made_wider() -> None:
    found = find_training_plan(MadeUp({role: 9 for role in NEEDS}, together=3.0), cost, 0.5, ladder=LADDER, attempts=6)
    assert found.setting is not None and max(found.setting.bits.values()) == 19
    assert set(found.alone.values()) == {"e5m4"}


def test_a_training_limit_that_nothing_meets_names_the_nearest_miss() -> None:
    found = find_training_plan(MadeUp({role: 20 for role in NEEDS}), cost, 0.5, ladder=LADDER)
    assert found.setting is None and found.plan == Plan() and found.drops == ()
    assert found.notes[-1].startswith("None of ") and "the nearest miss is weight e8m" in found.notes[-1]
    assert "a mean drop of 12.00 points" in found.notes[-1]


def test_an_interrupted_training_search_trains_nothing_twice() -> None:
    kept: list[Trial] = []

    class Killed(Exception):
        pass

    def keep(trial: Trial) -> None:
        kept.append(Trial.from_dict(json.loads(json.dumps(trial.to_dict()))))
        if len(kept) == 9:
            raise Killed

    with pytest.raises(Killed):
        find_training_plan(MadeUp(NEEDS), cost, 0.5, ladder=LADDER, on_trial=keep)
    train = MadeUp(NEEDS)
    found = find_training_plan(train, cost, 0.5, ladder=LADDER, done=kept)
    whole = find_training_plan(MadeUp(NEEDS), cost, 0.5, ladder=LADDER)
    assert found.plan == whole.plan and found.trials == whole.trials and found.spent == whole.spent
    assert len(train.asked) == len(whole.trials) - 9


def test_the_accumulator_follows_from_the_longest_sum_and_is_checked() -> None:
    found = find_training_plan(MadeUp(NEEDS), cost, 0.5, ladder=LADDER, longest_sum=4096)
    assert found.setting is not None and found.setting.accumulator == Format.float(8, significand_bits(4096))
    assert found.notes[-1].startswith("Accumulator e8m9: the longest sum has 4,096 terms, for which the variance rule asks 9 bits")
    narrow = MadeUp(NEEDS | {"accumulator": 20})
    widened = find_training_plan(narrow, cost, 0.5, ladder=LADDER, longest_sum=4096)
    assert widened.setting is not None and widened.setting.accumulator == Format.float(8, 11)


def test_training_search_errors() -> None:
    with pytest.raises(UsageError, match="no kind of format 'posit'; allowed are float, fixed, or give the formats themselves"):
        find_training_plan(MadeUp({}), cost, kind="posit")
    with pytest.raises(UsageError, match="give at least two, each with fewer bits than the one before"):
        find_training_plan(MadeUp({}), cost, ladder=["e5m2", "e8m7"])
    with pytest.raises(UsageError, match="max_drop is -1, seeds"):
        find_training_plan(MadeUp({}), cost, -1)


def test_a_training_plan_names_every_role() -> None:
    plan = uniform_training("e5m2")
    assert {rule.role for rule in plan.rules} == {*ROLES, "bias"} and not plan.master and plan.name == "e5m2"
    fixed = Setting((0,) * 6, ROLES, (parse("fixed<2,10>"),)).plan()
    assert {rule.scale for rule in fixed.rules if rule.role != "update"} == {"dynamic"}
    assert {rule.rounding for rule in fixed.rules if rule.role in ("error", "update", "weight")} == {"stochastic"}


def test_bit_operations_of_an_update_by_hand() -> None:
    """Batch of 2: products of the stem go back to its weights only, those of the others to their input too."""
    work = training_work(residual_graph(bias=False), 2, 10)
    plan = Plan((Rule("*", "weight", parse("int8")), Rule("*", "activation", parse("int4")), Rule("*", "error", parse("e5m2"))))
    stem, block, fc = 64 * 4 * 27, 64 * 4 * 4, 12
    w, a, e, s = 8, 4, 8, 32
    products = 2 * (stem * (w * a + s + a * e + s) + (block + fc) * (w * a + s + w * e + s + a * e + s))
    stored = (108 + 16 + 12) * (8 + 32 + 32 + 32)
    assert work.update(plan) == products + stored
    assert work.run(plan, 3) == 30 * work.update(plan)
    assert work.longest_sum() == 2 * 64  # images times positions of the stem's weight gradient
    both = switching(plan, Plan(), 1)
    assert work.run(both, 3) == 10 * work.update(plan) + 20 * work.update(None)
    with pytest.raises(UsageError, match="begins at a stall is known only after the run"):
        work.run(Plan(plan.rules, phases=(Phase(Start("stall"), ()),)), 3)


class Schedules:
    """Few bits cost two points unless the last epoch has many."""

    def __init__(self, early: float) -> None:
        self.early = early

    def __call__(self, plan: Plan | None, share: float, seed: int, warm: bool) -> Outcome:
        assert plan is not None
        last = plan.rules_of(len(plan.phases))[0].format
        first = plan.rules[0].format
        assert last is not None and first is not None
        accuracy = 0.95 - (0.02 if last.bits < 16 else 0.0) + 0.0001 * seed
        fast = self.early if first.bits < 16 else 0.0
        losses = tuple(1.0 / epoch - fast + 0.001 * seed * (first.bits < 16) for epoch in range(1, 9))
        return Outcome(accuracy, 10_000, losses, (accuracy,) * 8)


def test_the_longest_cheap_phase_that_holds_is_chosen() -> None:
    low, high = uniform_training("e5m2"), uniform_training("e8m7")
    work = training_work(residual_graph(), 8, 5)
    found = compare_schedules(Schedules(0.0), lambda plan: work.run(plan, 8), low, high, 8)
    assert [row.plan.phases[0].start.at for row in found.rows[2:]] == [2, 4, 6]
    assert found.chosen is found.rows[-1] and found.chosen.drop.mean == pytest.approx(0)
    assert found.saved == pytest.approx(1 - found.rows[-1].cost / found.rows[0].cost) and 0.3 < found.saved < 0.75
    assert "until epoch 6, then e8m7, a schedule, saves" in found.notes[-1]
    assert found.rows[1].drop.mean == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("early", "begins"), [(0.1, "Few bits converge faster"), (-0.1, "The hypothesis that few bits converge faster at")]
)
def test_the_hypothesis_is_judged_by_the_losses(early, begins) -> None:
    low, high = uniform_training("e5m2"), uniform_training("e8m7")
    found = compare_schedules(Schedules(early), lambda plan: 1.0, low, high, 8, switches=(0.5,))
    assert found.hypothesis.startswith(begins)
    assert ("fails here" in found.hypothesis) == (early < 0)
    assert found.chosen is None and "nothing is saved" in found.notes[-1]
    one = compare_schedules(Schedules(early), lambda plan: 1.0, low, high, 8, switches=(0.5,), seeds=(0,))
    assert "is not confirmed here" in hypothesis(one.rows[1], one.rows[0])
    with pytest.raises(UsageError, match="a schedule is made of two plans without phases of their own"):
        switching(switching(low, high, 2), high, 3)
    with pytest.raises(UsageError, match="0 seeds and 8 epochs: a comparison needs at least one seed"):
        compare_schedules(Schedules(0), lambda plan: 1.0, low, high, 8, seeds=())


def test_trials_are_asked_once() -> None:
    train = MadeUp({})
    trials = Trials(train, 3.0)
    for _ in range(3):
        trials("float32", None, 0.5, 0)
    assert len(train.asked) == 1 and trials.spent == 0.5


def test_curves_end_when_they_collapse_and_go_on_from_what_is_known() -> None:
    asked = []

    def evaluate(plan: Plan | None) -> tuple[float, float | None, int]:
        asked.append("float32" if plan is None else plan.name)
        bits = 32 if plan is None or plan.rules[0].format is None else plan.rules[0].format.significand_bits
        return (0.9 if bits >= 4 else 0.1), 0.3, 500

    points = trace("made up", evaluate, training=False, variables=("significand",))
    by_moment = {moment: [p.bits for p in points if p.moment == moment] for moment in MOMENTS}
    assert by_moment["layer"] == [10, 8, 7, 6, 5, 4, 3, 2] == by_moment["batch"]
    assert {row["bits"] for row in fewest(points, 1.0)} == {4}
    before = len(asked)
    again = trace("made up", evaluate, training=False, variables=("significand",), done=points[:7])
    assert again == points and len(asked) - before == len(points) - 7
    with pytest.raises(UsageError, match=r"no variable 'exponents'; .*Did you mean 'exponent'\?"):
        format_of("exponents", 3)
    assert all(format_of(variable, bits).carrier == "float32" for variable in BITS for bits in BITS[variable])


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_plan_of_a_moment_rounds_there_and_nowhere_else(moment) -> None:
    plan = moment_plan(Format.float(8, 3), moment, training=True)
    moments = {rule.role: rule.moment for rule in plan.rules}
    assert ("accumulator" in moments) == (moment == "operation") and ("activation" in moments) == (moment != "batch")
    assert moments["weight"] == ("batch" if moment == "batch" else "layer")


def test_the_error_of_float32_is_its_rounding_and_grows_with_fewer_bits() -> None:
    x = np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32)
    exact = error_growth(residual_graph(), None, x)
    assert [row.layer for row in exact] == ["stem", "block.conv", "fc"]
    assert all(0 < row.error < 2.0**-22 for row in exact)
    errors = [error_growth(residual_graph(), stored_and_summed(Format.float(8, bits)), x)[-1].error for bits in (4, 7, 10)]
    # three bits fewer are eight times the error, to within a factor of two
    assert 4 < errors[0] / errors[1] < 16 and 4 < errors[1] / errors[2] < 16


def test_errors_grow_along_depth() -> None:
    rows = depth_and_width((1, 4, 16), (64,), (7,))
    errors = [row["error"] for row in rows]
    assert errors[0] < errors[1] < errors[2]
    # independent errors of equal size in every layer add up like the root of the depth or faster, never like more than the depth
    assert 4**0.5 * 0.7 <= errors[2] / errors[1] <= 4 * 1.5

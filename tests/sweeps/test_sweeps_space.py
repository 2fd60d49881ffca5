"""What ``--over`` says: lists, ranges, their order and their random values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.trial import FixedTrial

from convsmith.errors import UsageError
from convsmith.sweeps import Axis, grid, nested, parse


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("learning_rate=0.01,0.1", Axis("learning_rate", (0.01, 0.1))),
        ("learning-rate=1e-4,3", Axis("learning_rate", (1e-4, 3))),
        ("training.optimizer=adamw,sgd", Axis("training.optimizer", ("adamw", "sgd"))),
        ("deterministic=true,false", Axis("deterministic", (True, False))),
        ("size=null,32", Axis("size", (None, 32))),
        ("learning_rate=1e-4..1e-1:log", Axis("learning_rate", low=1e-4, high=1e-1, log=True)),
        ("training.momentum=0.5..0.9", Axis("training.momentum", low=0.5, high=0.9)),
        ("batch=16..128:log", Axis("batch", low=16, high=128, log=True, whole=True)),
        ("batch=16..64:16", Axis("batch", low=16, high=64, step=16, whole=True)),
        ("x=-1..1:0.25", Axis("x", low=-1, high=1, step=0.25)),
    ],
)
def test_forms(text: str, axis: Axis) -> None:
    assert parse(text) == axis


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate", "is not of the form KEY=VALUES: KEY=0.01,0.1 for a list, KEY=0.5..0.9 for a range"),
        ("=1", "is not of the form KEY=VALUES"),
        ("x=", "is not of the form KEY=VALUES"),
        ("x=1..0", "a range goes from a smaller to a larger number"),
        ("x=0..1", r"may mean either: x=0,1 are two values, x=0.0\.\.1.0 are all numbers between them"),
        ("x=0..2:log", "a range in powers begins above 0"),
        ("x=0..2:3", r"the step must be above 0 and at most 2"),
        ("x=a..b", "is no range of numbers"),
        ("x=1..e", "is no range of numbers"),
        ("x=1,1", "holds 1 twice"),
        ("x={a: 1},2", "is no plain value"),
    ],
)
def test_what_is_no_form(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_grid_varies_the_last_fastest() -> None:
    assert grid([parse("a=1,2"), parse("b.c=x,y")]) == [{"a": a, "b.c": b} for a in (1, 2) for b in ("x", "y")]
    assert nested({"a": 1, "b.c": 2, "b.d.e": 3}) == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    with pytest.raises(UsageError, match="a grid needs lists, and a is a range"):
        grid([parse("a=1..9")])


def test_random_values_cover_what_they_should() -> None:
    generator = np.random.default_rng(0)
    powers = [parse("x=1e-4..1e-1:log").draw(generator) for _ in range(3000)]
    assert 1e-4 <= min(powers) and max(powers) <= 1e-1
    # of a logarithm that is uniform over three decades a third lies in each: 1000 with a deviation of sqrt(3000 * 2/9) = 26
    shares = [sum(10.0**low <= value < 10.0 ** (low + 1) for value in powers) for low in (-4, -3, -2)]
    assert all(abs(share - 1000) < 4 * 26 for share in shares)
    steps = {parse("x=16..64:16").draw(generator) for _ in range(200)}
    assert steps == {16, 32, 48, 64} and all(isinstance(value, int) for value in steps)
    assert {parse("x=3..5").draw(generator) for _ in range(200)} == {3, 4, 5}
    assert {parse("x=1..4:log").draw(generator) for _ in range(400)} == {1, 2, 3, 4}
    assert {parse("x=a,b").draw(generator) for _ in range(100)} == {"a", "b"}
    assert math.isclose(
        float(np.mean([parse("x=0.0..1.0").draw(generator) for _ in range(3000)])), 0.5, abs_tol=4 * math.sqrt(1 / 12 / 3000)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("x=1,2", 2), ("x=0.0..1.0", 0.25), ("x=1e-4..1:log", 0.01), ("x=16..64:16", 48), ("x=1..8:log", 5), ("x=0..1:0.25", 0.75)],
)
def test_a_study_may_choose_each_value(text: str, value: object) -> None:
    assert parse(text).suggest(FixedTrial({"x": value})) == value

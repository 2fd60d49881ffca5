"""Every schedule against its formula, written out by hand."""

from __future__ import annotations

import math

import pytest

from convsmith.training import Schedule
from convsmith.training.schedules import FORMULAS, factor

CASES = [
    ({"kind": "constant"}, {0: 1, 7.5: 1, 20: 1}),
    ({"kind": "step", "gamma": 0.5, "step": 5}, {0: 1, 4.99: 1, 5: 0.5, 14: 0.25, 15: 0.125}),
    ({"kind": "multistep", "gamma": 0.1, "milestones": (10, 15)}, {9.99: 1, 10: 0.1, 14: 0.1, 15: 0.01}),
    ({"kind": "exponential", "gamma": 0.9}, {0: 1, 1: 0.9, 2.5: 0.9**2.5}),
    ({"kind": "inverse", "gamma": 0.5, "power": 0.75}, {0: 1, 4: 3**-0.75}),
    ({"kind": "polynomial", "power": 2}, {0: 1, 5: 0.5625, 20: 0}),
    ({"kind": "sigmoid", "gamma": 2, "center": 12}, {12: 0.5, 13: 1 / (1 + math.e**2), 0: 1 / (1 + math.e**-24)}),
    ({"kind": "sigmoid", "gamma": 2}, {10: 0.5}),
    ({"kind": "sigmoid", "gamma": 1000}, {20: 0}),
    ({"kind": "cosine"}, {0: 1, 5: (1 + math.sqrt(0.5)) / 2, 10: 0.5, 20: 0}),
    ({"kind": "cosine", "floor": 0.2}, {10: 0.6, 20: 0.2}),
    ({"kind": "one_cycle", "rise": 0.25, "start": 0.2, "floor": 0.1}, {0: 0.2, 2.5: 0.6, 5: 1, 12.5: 0.55, 20: 0.1}),
    ({"kind": "one_cycle", "rise": 0}, {0: 1, 10: 0.5}),
    ({"kind": "linear", "floor": 0.1, "settle": 0.5}, {0: 1, 5: 0.55, 10: 0.1, 20: 0.1}),
]


@pytest.mark.parametrize(("fields", "values"), CASES)
def test_formula(fields: dict, values: dict[float, float]) -> None:
    schedule = Schedule(**fields)
    for epoch, value in values.items():
        assert factor(schedule, epoch, 20) == pytest.approx(value, abs=1e-12)


def test_all_kinds_are_covered() -> None:
    assert {fields["kind"] for fields, _ in CASES} == set(FORMULAS)


@pytest.mark.parametrize("kind", ["constant", "cosine", "polynomial", "exponential"])
def test_warmup_rises_to_the_first_value_and_then_the_schedule_begins(kind: str) -> None:
    schedule = Schedule(kind=kind, warmup=4, gamma=0.9)
    plain = schedule.model_copy(update={"warmup": 0.0})
    assert [factor(schedule, epoch, 20) for epoch in (0, 1, 3)] == pytest.approx([0, 0.25, 0.75])
    for epoch in (4, 9, 20):
        assert factor(schedule, epoch, 20) == pytest.approx(factor(plain, epoch - 4, 16))

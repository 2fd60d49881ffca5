"""The pace of a network that has run warm."""

from __future__ import annotations

from convsmith.training import Training, planning
from convsmith.training.feed import Feed
from convsmith.training.processes import Team
from convsmith.training.surroundings import settings


def test_the_pace_is_that_of_a_warm_network(make_net, dataset, preprocess, monkeypatch) -> None:
    """By a clock of the test: the first third of the time does not count, and the time or the number given ends it."""
    config = Training(epochs=1, batch=16, precision="float32", channels_last=False)
    with settings(config):
        feed = Feed(dataset.train, preprocess, config, Team())
        cases = [
            ([9.0] * 2 + [1.0] * 9 + [3.0] * 3 + [7.0] * 9, 1e6, 14, 18 / 12),
            ([4.0, 3.0, 2.0, 9.0], 5.0, 99, 5 / 2),
            ([1.0] * 3, 0.0, 1, 1.0),
        ]
        for taken, budget_s, most, wanted in cases:
            now, steps = [0.0], iter(taken)

            def update(*_: object, now=now, steps=steps) -> None:
                now[0] += next(steps)

            with monkeypatch.context() as patch:
                patch.setattr(planning.Updater, "update", update)
                patch.setattr(planning.time, "perf_counter", lambda now=now: now[0])
                found = planning.steady(make_net(), config, feed, None, planning.Arithmetic(), budget_s, most)
            assert found == wanted

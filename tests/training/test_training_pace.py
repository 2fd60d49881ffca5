"""The pace of a network that has run warm."""

from __future__ import annotations

from convsmith.training import Training, planning
from convsmith.training.feed import Feed
from convsmith.training.processes import Team
from convsmith.training.surroundings import settings


def test_the_pace_is_that_of_a_warm_network(make_net, dataset, preprocess, monkeypatch) -> None:
    """By a clock of the test: the first third of the updates and one slow moment do not count, and the time given ends it."""
    config = Training(epochs=1, batch=16, precision="float32", channels_last=False)
    with settings(config):
        feed = Feed(dataset.train, preprocess, config, Team())
        for taken, budget_s, wanted in (([9.0] * 8 + [1.0] * 7 + [50.0] + [1.0] * 8, 1e6, 1.0), ([4.0, 3.0, 2.0, 2.0], 5.0, 2.5)):
            now, steps = [0.0], iter(taken)

            def update(*_: object, now=now, steps=steps) -> None:
                now[0] += next(steps)

            with monkeypatch.context() as patch:
                patch.setattr(planning.Updater, "update", update)
                patch.setattr(planning.time, "perf_counter", lambda now=now: now[0])
                found = planning.steady(make_net(), config, feed, None, planning.Arithmetic(), budget_s)
            assert found == wanted

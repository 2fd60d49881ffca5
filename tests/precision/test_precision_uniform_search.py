"""The search and the sweep on made-up scores with known borders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from precision_nets import pictures, residual_graph

from convsmith import precision
from convsmith.errors import DataError, UsageError
from convsmith.formats import Format
from convsmith.precision import Plan, Point, Score, compare, find_uniform
from convsmith.precision.families import candidate, candidates

N = 1000
GRAPH = residual_graph()


def correct(count: int) -> np.ndarray:
    return np.arange(N) < count


class Scores:
    """Scores a plan by a function of its format; remembers what was asked."""

    def __init__(self, accuracy, vector: bool = True) -> None:
        self.accuracy = accuracy
        self.vector = vector
        self.asked: list[str] = []

    def __call__(self, plan: Plan | None) -> Score:
        name = "float32" if plan is None else plan.name
        self.asked.append(name)
        fmt = None if plan is None else plan.rules[0].format
        right = 900 if fmt is None else self.accuracy(fmt)
        return Score.of(correct(right)) if self.vector else Score(right / N, N)


FLOATS = [Format.float(5, m) for m in range(11)]


@pytest.mark.parametrize("border", range(11))
@pytest.mark.parametrize("vector", [True, False])
def test_the_border_of_a_monotone_family_is_found(border, vector) -> None:
    score = Scores(lambda f: 899 if f.significand_bits >= border else 800, vector)
    plan, points = find_uniform(GRAPH, score, FLOATS, max_drop=0.5)
    assert plan.rules[0].format == Format.float(5, border)
    assert len(score.asked) == len(set(score.asked)), "no format is scored twice"
    assert len(points) <= 8
    evaluated = {point.format for point in points}
    for beside in (border - 1, border - 2):
        if beside >= 0:
            assert str(Format.float(5, beside)) in evaluated


def test_a_cheaper_format_below_a_failing_one_is_found_and_said() -> None:
    score = Scores(lambda f: 900 if f.significand_bits in (3, 5, 6, 7, 8, 9, 10) else 700)
    plan, points = find_uniform(GRAPH, score, FLOATS, max_drop=0.5)
    assert plan.rules[0].format == Format.float(5, 3)
    text = precision.explain(plan, points, 0.5)
    assert text.startswith(
        "e5m3, 9 bits for weights and activations, is the fewest found: drop 0.00 points on 1,000 images (95 % interval "
    )
    assert "Accuracy does not fall steadily with bits in float e5." in text


def test_the_widest_format_may_fail_alone() -> None:
    score = Scores(lambda f: 700 if f.significand_bits in (0, 1, 10) else 900)
    plan, _ = find_uniform(GRAPH, score, FLOATS, max_drop=0.5)
    assert plan.rules[0].format == Format.float(5, 2)


def test_nothing_holds() -> None:
    plan, points = find_uniform(GRAPH, Scores(lambda f: 800 + f.bits), [*FLOATS, "int8"], max_drop=0.5)
    assert plan == Plan() and len(points) == 3
    text = precision.explain(plan, points, 0.5)
    assert text.startswith("None of 3 evaluated formats keeps the drop within 0.5 points on 1000 images; the network stays in float32.")
    assert "The smallest drop was 8.40 points" in text and "with e5m10" in text


def test_the_drop_may_be_exactly_the_limit() -> None:
    plan, _ = find_uniform(GRAPH, Scores(lambda f: 895), FLOATS[:1], max_drop=0.5)
    assert plan.rules
    plan, _ = find_uniform(GRAPH, Scores(lambda f: 894), FLOATS[:1], max_drop=0.5)
    assert not plan.rules


def test_a_family_cannot_win_with_more_bits_and_is_not_asked() -> None:
    score = Scores(lambda f: 900)
    plan, points = find_uniform(GRAPH, score, [Format.integer(4), *FLOATS], max_drop=0.5)
    assert plan.rules[0].format.bits == 4
    assert [point.format for point in points] == ["int4"]


def test_at_equal_bits_the_smaller_drop_wins() -> None:
    score = Scores(lambda f: 899 if f.kind == "float" else 898)
    plan, _ = find_uniform(GRAPH, score, ["int8", Format.float(4, 3)], max_drop=0.5)
    assert plan.rules[0].format == Format.float(4, 3)


def test_gaining_accuracy_is_a_negative_drop() -> None:
    plan, points = find_uniform(GRAPH, Scores(lambda f: 910), ["int8"], max_drop=0)
    assert plan.rules and points[0].drop == pytest.approx(-1.0) and (points[0].lost, points[0].gained) == (0, 10)


def test_an_interrupted_search_goes_on(tmp_path) -> None:
    kept: list[Point] = []

    def accuracy(f: Format) -> int:
        return 900 if f.significand_bits >= 4 else 800

    class Killed(Exception):
        pass

    def keep(point: Point) -> None:
        kept.append(Point.from_dict(json.loads(json.dumps(point.to_dict()))))
        if len(kept) == 3:
            raise Killed

    with pytest.raises(Killed):
        find_uniform(GRAPH, Scores(accuracy), FLOATS, 0.5, on_point=keep)
    score = Scores(accuracy)
    plan, points = find_uniform(GRAPH, score, FLOATS, 0.5, done=kept)
    whole, all_points = find_uniform(GRAPH, Scores(accuracy), FLOATS, 0.5)
    assert plan == whole and points == all_points
    assert not {point.format for point in kept} & set(score.asked)
    again = Scores(accuracy)
    find_uniform(GRAPH, again, FLOATS, 0.5, done=all_points)
    assert again.asked == []


def test_progress_counts() -> None:
    seen = []
    find_uniform(GRAPH, Scores(lambda f: 900), FLOATS, 0.5, lambda done, total, what: seen.append((done, total, what)))
    assert [done for done, _, _ in seen] == list(range(len(seen)))
    assert all(done < total for done, total, _ in seen)


def test_errors() -> None:
    with pytest.raises(UsageError, match="max_drop is -1; it is in points of accuracy and must be at least 0"):
        find_uniform(GRAPH, Scores(lambda f: 900), FLOATS, -1)
    with pytest.raises(UsageError, match="max_drop is nan"):
        find_uniform(GRAPH, Scores(lambda f: 900), FLOATS, float("nan"))
    with pytest.raises(UsageError, match="no formats to choose from"):
        find_uniform(GRAPH, Scores(lambda f: 900), [], 1)
    with pytest.raises(UsageError, match=r"tensors is 'weights'; allowed are weight, activation, both. Did you mean 'weight'\?"):
        candidate("int8", precision.layout(GRAPH), "weights")
    with pytest.raises(UsageError, match=r"no family 'flot'; allowed are int, fixed, float e5"):
        candidates(GRAPH, families=("flot",))
    with pytest.raises(UsageError, match="the family 'fixed' takes its integer bits from ranges"):
        candidates(GRAPH, families=("fixed",))
    with pytest.raises(UsageError, match="scores of 3 and 4 images cannot be compared"):
        compare(Score(0.5, 3), Score(0.5, 4))
    with pytest.raises(DataError, match="a score needs at least one image"):
        Score.of(np.zeros(0, bool))


def test_paired_interval_covers_at_its_level() -> None:
    """Simulated pairs with a true drop of 2 points: the 95 % interval contains it in 93 to 98 % of 2000 draws."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        draw = rng.random(400)
        base, other = draw >= 0.1, (draw >= 0.1 + 0.05) | (draw < 0.03)  # 5 % lost, 3 % gained
        found = compare(Score.of(base), Score.of(other))
        hits += found["drop_low"] <= 2.0 <= found["drop_high"]
    assert 0.93 <= hits / 2000 <= 0.98


def test_intervals_narrow_when_scores_are_paired() -> None:
    base, other = correct(900), correct(897)
    paired = compare(Score.of(base), Score.of(other))
    loose = compare(Score(0.9, N), Score(0.897, N))
    assert paired["drop"] == pytest.approx(0.3) == loose["drop"]
    assert paired["drop_low"] < 0.3 < paired["drop_high"]
    assert paired["drop_high"] - paired["drop_low"] < (loose["drop_high"] - loose["drop_low"]) / 3
    assert loose["lost"] is None


def test_sweep_stops_a_collapsed_curve_and_keeps_order() -> None:
    score = Scores(lambda f: 900 if f.bits >= 6 else 100)
    points = precision.sweep(GRAPH, score, families=("int",))
    both = [point.bits for point in points if point.tensors == "both"]
    assert both == [8, 7, 6, 5, 4]
    assert [curve["tensors"] for curve in precision.series(points)] == ["weight", "activation", "both"]
    curve = precision.series(points)[2]
    assert curve["bits"] == [4, 5, 6, 7, 8] and curve["accuracy"][0] == 0.1
    text = precision.points_table(points)
    assert len(text.splitlines()) == 1 + len(points) and "int8 weights" in text
    json.dumps([point.to_dict() for point in points], allow_nan=False)


def test_fixed_family_takes_its_integer_bits_from_what_was_seen() -> None:
    ranges = precision.calibrate(GRAPH, pictures())
    largest = max(max(-found.low, found.high) for found in ranges.tensors.values())
    weights = max(float(np.abs(array).max()) for array in GRAPH.weights.values())
    for found in candidates(GRAPH, ranges, ("fixed",), ("both",)):
        weight, activation = found.plan.rules[0].format, found.plan.rules[2].format
        assert weight.bits == activation.bits == found.bits
        assert 2.0 ** (activation.integer_bits - 2) <= largest < 2.0 ** (activation.integer_bits - 1)
        assert 2.0 ** (weight.integer_bits - 2) <= weights < 2.0 ** (weight.integer_bits - 1)


def test_a_real_network_end_to_end(tmp_path) -> None:
    x = pictures(120)
    module = precision.emulate(GRAPH, Plan())
    import torch

    labels = module(torch.from_numpy(x)).argmax(1).numpy()
    score = precision.scorer(GRAPH, x, labels)
    assert score(None).accuracy == 1.0
    ranges = precision.calibrate(GRAPH, x)
    plan, points = find_uniform(GRAPH, score, None, 2.0, ranges=ranges)
    assert plan.rules and score(plan).accuracy >= 0.98
    assert precision.weight_bytes(GRAPH, plan) < precision.weight_bytes(GRAPH)
    again, same = find_uniform(GRAPH, score, None, 2.0, ranges=ranges)
    assert (again, same) == (plan, points)
    path = precision.plot(points, tmp_path / "bits.png", max_drop=2.0)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in precision.plot(points, tmp_path / "bits.svg").read_text()
    with pytest.raises(DataError, match="120 images and 3 labels"):
        precision.scorer(GRAPH, x, labels[:3])
    with pytest.raises(UsageError, match="no points to plot"):
        precision.plot([], tmp_path / "none.png")


def test_the_room_loads_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, convsmith.precision, convsmith.targets; assert 'torch' not in sys.modules; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

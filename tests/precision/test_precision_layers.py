"""The search by layers: its knapsack against brute force, its sensitivity against measured noise, its plans on real networks."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from precision_nets import pictures, residual_graph

from convsmith import precision
from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.formats import Format, parse
from convsmith.graph.network import Graph, Node, Value
from convsmith.precision import Plan, Point, Rule, Score, find_plan, propose
from convsmith.precision.accumulators import integer_sums, with_accumulators
from convsmith.precision.allocation import Item, Pair, allocate, spend, total
from convsmith.precision.assignment import resolve
from convsmith.precision.choices import choices
from convsmith.precision.costs import COSTS, energy_pj, find_cost, priced
from convsmith.precision.evidence import Repeated, drop_bound, images_needed, spread
from convsmith.precision.sensitivity import measure
from convsmith.precision.workload import Work, workload

GRAPH = residual_graph()
X = pictures(200)


def labels_of(graph: Graph, x: np.ndarray) -> np.ndarray:
    return precision.emulate(graph, Plan())(torch.from_numpy(x)).argmax(1).numpy()


SCORE = precision.scorer(GRAPH, X, labels_of(GRAPH, X))
RANGES = SCORE.ranges


@pytest.mark.parametrize("seed", range(12))
def test_the_knapsack_is_as_good_as_trying_everything(seed) -> None:
    rng = np.random.default_rng(seed)
    items = [Item(f"t{i}", tuple(-np.sort(-rng.random(4))), tuple(np.sort(rng.random(4)) * 100)) for i in range(5)]
    pairs = [Pair("t0", "t1", tuple(map(tuple, rng.random((4, 4)) * 50))), Pair("t1", "t3", tuple(map(tuple, rng.random((4, 4)) * 50)))]
    pairs = pairs[: seed % 3]
    budget = float(rng.uniform(0.5, 3.5))
    names = [item.name for item in items]
    every = [dict(zip(names, picked, strict=True)) for picked in itertools.product(range(4), repeat=5)]
    costs = [total(chosen, items, pairs) for chosen in every]
    feasible = [cost for cost, noise in costs if noise <= budget]
    found = allocate(items, pairs, noise=budget)
    if not feasible:
        assert found is None
    else:
        assert found is not None
        cost, noise = total(found, items, pairs)
        assert noise <= budget * (1 + 1e-6) and cost <= min(feasible) * (1 + 1e-4) + 1e-9
    limit = float(np.median([cost for cost, _ in costs]))
    most = spend(items, pairs, cost=limit)
    assert most is not None
    cost, noise = total(most, items, pairs)
    assert cost <= limit * (1 + 1e-6) and noise <= min(noise for cost, noise in costs if cost <= limit) * (1 + 1e-4) + 1e-9


def test_a_knapsack_that_cannot_be_is_none_and_a_strange_pair_is_refused(capfd) -> None:
    items = [Item("a", (1.0, 0.5), (1.0, 2.0))]
    assert allocate(items, noise=0.4) is None
    assert allocate(items, noise=0.5) == {"a": 1}
    with pytest.raises(UsageError, match="a pair speaks of 'b', which is no item; there are a"):
        allocate(items, [Pair("a", "b", ((1.0, 2.0), (1.0, 2.0)))], noise=1)
    with pytest.raises(UsageError, match="needs a cost for each of their options"):
        allocate(items, [Pair("a", "a", ((1.0, 2.0),))], noise=1)
    assert capfd.readouterr().out == ""


def test_sensitivity_is_the_noise_that_rounding_really_makes() -> None:
    """The first-order change of the margin against the margin of the network emulated with one tensor rounded."""
    options = choices(GRAPH, ["int8", "int6"])
    found = measure(GRAPH, options, X, RANGES)
    x = torch.from_numpy(X)
    logits = precision.emulate(GRAPH, Plan())(x).double()
    best, second = logits.topk(2, 1).indices.T
    rows = torch.arange(len(x))
    margin = logits[rows, best] - logits[rows, second]
    np.testing.assert_allclose(found.margins, margin, rtol=1e-4, atol=1e-6)
    for group in options.groups:
        for fmt in options.formats:
            changed = precision.emulate(GRAPH, options.plan({group.tensor: fmt}), RANGES)(x).double()
            moved = (changed[rows, best] - changed[rows, second] - margin).square()
            real = float((moved / (margin.square() + moved)).mean())
            assert found.noise[group.tensor, fmt] == pytest.approx(real, rel=0.25, abs=1e-6), (group.name, fmt)


def test_every_weight_and_stored_activation_is_decided_but_not_the_output() -> None:
    options = choices(GRAPH)
    assert [group.name for group in options.groups] == [
        "x activation",
        "stem weight",
        "relu activation",
        "block.conv weight",
        "block.conv activation",
        "block.relu activation",
        "average activation",
        "fc weight",
    ]
    plan = options.plan(dict.fromkeys((group.tensor for group in options.groups), parse("e4m3")))
    assert [rule.layer for rule in plan.rules if rule.role == "bias"] == ["stem", "fc"]
    assert options.describe({group.tensor: parse("int4") for group in options.groups}) == (
        "by layers: 4.00 bits weights, 4.00 bits activations"
    )
    with pytest.raises(UsageError, match="a format is given twice: int8, int8"):
        choices(GRAPH, ["int8", Format.integer(8)])
    with pytest.raises(UsageError, match="no formats to choose from; give at least one, for example int8"):
        choices(GRAPH, [])


def test_work_of_the_network() -> None:
    """By hand: 8x8 maps; 3x3 from 3 to 4 channels, 1x1 from 4 to 4, 4 to 3 classes."""
    found = workload(GRAPH)
    assert [(w.layer, w.source, w.macs, w.terms) for w in found.works] == [
        ("stem", "x", 64 * 4 * 27, 27),
        ("block.conv", "relu", 64 * 4 * 4, 4),
        ("fc", "average", 12, 4),
    ]
    assert found.numbers["x"] == 192 and found.numbers["relu"] == 256 and found.numbers["average"] == 4
    assert found.reads["relu"] == 2 and found.reads["average"] == 1 and found.reads["x"] == 1


def test_costs_by_hand() -> None:
    options = choices(GRAPH, ["int8", "int4"])
    chosen = dict.fromkeys((group.tensor for group in options.groups), parse("int8"))
    weights = 8 * (108 + 16 + 12)
    assert find_cost("weight bits").of(options, chosen) == weights + 32 * (4 + 3)  # biases stay float32
    operations = 64 * (64 * 4 * 27 + 64 * 4 * 4 + 12)
    assert find_cost("bit operations").of(options, chosen) == operations
    work = Work("fc", "Gemm", "fc.weight", "average", 1, 2)
    assert energy_pj(work, parse("int8"), parse("int8")) == pytest.approx(0.2 + 17 * 0.1 / 32)
    assert energy_pj(work, None, None) == pytest.approx(3.7 + 0.9)
    table = priced({"stem": {"int8,int8": 3.0, "*": 1.0}, "*": {"*": 0.5}})
    assert table.of(options, chosen) == 4.0
    with pytest.raises(UsageError, match=r"no cost 'energie'; allowed are .*Did you mean 'energy'\?"):
        find_cost("energie")
    with pytest.raises(UsageError, match="the cost 'latency' needs measured prices"):
        find_cost("latency")
    with pytest.raises(DataError, match="the price of 'int8,int8' in layer 'stem' is -1; a number of at least 0 is needed"):
        priced({"stem": {"int8,int8": -1}})
    with pytest.raises(UsageError, match=r"the prices have no entry 'int8,int8' for layer 'block\.conv'"):
        priced({"stem": {"*": 1.0}}).of(options, chosen)


@pytest.mark.parametrize("cost", [name for name in COSTS if name != "weight bits"])
def test_the_price_of_a_plan_is_what_the_program_adds_up(cost) -> None:
    options = choices(GRAPH, ["int8", "int4", "int2"])
    sensitivity = measure(GRAPH, options, X, RANGES)
    items, pairs = COSTS[cost].items(options, sensitivity.noise)
    base = {item.name: 0 for item in items}
    rng = np.random.default_rng(0)
    for _ in range(5):
        picked = {item.name: int(rng.integers(3)) for item in items}
        formats = {name: options.formats[index] for name, index in picked.items()}
        cheapest = dict.fromkeys(formats, options.formats[0])
        by_program = total(picked, items, pairs)[0] - total(base, items, pairs)[0]
        assert COSTS[cost].of(options, formats) - COSTS[cost].of(options, cheapest) == pytest.approx(by_program)


def test_a_real_search_holds_its_limit_and_is_no_dearer_than_one_format() -> None:
    found = find_plan(GRAPH, SCORE, None, 2.0, "bits moved")
    assert found.point is not None and SCORE(found.plan).accuracy >= 0.98
    assert found.uniform is None or found.point.cost <= found.uniform.cost
    assert found.evaluations <= 12 and found.point.cost < found.float32_cost
    assert set(found.accumulators) == {"stem", "block.conv", "fc"}
    again = find_plan(GRAPH, SCORE, None, 2.0, "bits moved")
    assert again.plan == found.plan and again.points == found.points
    cheaper = propose(found.options, found.sensitivity, found.cost, found.point.cost)
    assert cheaper is not None
    assert propose(found.options, found.sensitivity, found.cost, 1.0) is None


def test_an_interrupted_search_scores_nothing_twice() -> None:
    kept: list[Point] = []

    class Killed(Exception):
        pass

    def keep(point: Point) -> None:
        kept.append(Point.from_dict(json.loads(json.dumps(point.to_dict()))))
        if len(kept) == 4:
            raise Killed

    with pytest.raises(Killed):
        find_plan(GRAPH, SCORE, None, 2.0, on_point=keep)
    fresh: list[Point] = []
    found = find_plan(GRAPH, SCORE, None, 2.0, done=kept, on_point=fresh.append)
    whole = find_plan(GRAPH, SCORE, None, 2.0)
    assert found.plan == whole.plan and found.points == whole.points
    assert len(fresh) == len(whole.points) - 4


class Border:
    """A made-up score: accuracy falls by the sum of what each activation's and weight's bits miss."""

    calibration, ranges = X, RANGES

    def __init__(self, fall) -> None:
        self.fall = fall

    def __call__(self, plan: Plan | None) -> Score:
        bits = [rule.format.bits for rule in plan.rules if rule.format and rule.role != "accumulator"] if plan else []
        return Score.of(np.arange(1000) < 900 - sum(self.fall(b) for b in bits))


def test_a_limit_that_no_plan_meets_names_the_nearest_miss() -> None:
    found = find_plan(GRAPH, Border(lambda b: 20), ["int8", "int4"], 0.5)
    assert found.plan == Plan() and found.point is None and found.uniform is None
    assert found.notes[-1].startswith("No plan keeps the drop within 0.5 points; the nearest miss is ")
    assert "is int8 with a drop of 4.00" in found.notes[-1] and found.notes[-1].endswith("Allow more, or give wider formats.")


def test_one_format_for_all_wins_where_it_costs_no_more() -> None:
    found = find_plan(GRAPH, Border(lambda b: 0), ["int8", "int2"], 0.5)
    assert found.point == found.uniform and found.point.format == "int2"
    assert any(note.startswith("One format for all layers, int2, costs no more") for note in found.notes)


def test_too_few_images_are_said_with_the_number_it_takes() -> None:
    found = find_plan(GRAPH, Border(lambda b: 1 if b < 8 else 0), ["int8", "int6"], 0.3)
    assert found.point is not None
    assert any(note.startswith("1,000 images do not decide it: the 95 % interval of the drop reaches") for note in found.notes)


def test_a_noisy_score_is_repeated_and_its_interval_said() -> None:
    rng = np.random.default_rng(0)

    class Noisy(Border):
        def __call__(self, plan: Plan | None) -> Score:
            score = super().__call__(plan)
            return Score(score.accuracy + rng.normal(0, 0.002), 1000)

    found = find_plan(GRAPH, Noisy(lambda b: 0), ["int8", "int4"], 2.0, repeats=4)
    assert found.notes[0].startswith("The score does not repeat itself: float32 scored 4 times gave ")
    assert found.plan.rules
    with pytest.raises(UsageError, match="a noisy score is repeated 1 times; at least 2 show its noise"):
        Repeated(Noisy(lambda b: 0), 1)
    seen = spread([0.5, 0.52, 0.48])
    # t of 2 degrees of freedom at 97.5 %: 4.3027; deviation 2 points, root of 3
    assert (seen.mean, seen.low) == (pytest.approx(50.0), pytest.approx(50 - 4.3027 * 2 / 3**0.5, abs=1e-3))


def test_a_format_that_saturates_everything_is_refused_and_one_that_saturates_something_left_out() -> None:
    with pytest.raises(UsageError, match=r"every format given saturates the activation of layer 'x': at least \d+% of its numbers"):
        find_plan(GRAPH, SCORE, ["fixed<-3,8>", "fixed<-4,9>"], 1.0)
    found = find_plan(GRAPH, SCORE, ["fixed<-3,8>", "fixed<6,6>"], 5.0)
    assert found.notes[0].startswith("Left out because most numbers are beyond their range: fixed<-3,8> for x activation")
    decided = {rule.layer: rule.format for rule in found.plan.rules if rule.role == "activation"}
    assert found.plan.rules and decided.get("x", decided.get("*")) == parse("fixed<6,6>")


def test_search_errors() -> None:
    with pytest.raises(UsageError, match="max_drop is -1; it is in points of accuracy"):
        find_plan(GRAPH, SCORE, None, -1)
    with pytest.raises(UsageError, match="evaluations is 0; at least one plan must be scored"):
        find_plan(GRAPH, SCORE, None, 1, evaluations=0)
    with pytest.raises(UsageError, match="the score brings no images; give images="):
        find_plan(GRAPH, lambda plan: Score(0.9, 10), None, 1)
    with pytest.raises(DataError, match="a sensitivity needs images"):
        measure(GRAPH, choices(GRAPH), X[:0], RANGES)


@pytest.mark.parametrize(("lost", "gained", "n", "limit"), [(0, 0, 100, 0.5), (5, 1, 1000, 1.0), (30, 25, 2000, 0.6)])
def test_images_needed_is_the_least_number_that_proves_it(lost, gained, n, limit) -> None:
    needed = images_needed(lost, gained, n, limit)
    assert needed is not None
    rates = lost / n, gained / n
    counts = [(int(np.ceil(rates[0] * m)), int(np.floor(rates[1] * m)), m) for m in (needed - 1, needed)]
    assert drop_bound(*counts[0]) > limit >= drop_bound(*counts[1])


def test_images_without_a_loss_follow_the_closed_form() -> None:
    """No answer lost in n images: at most 1 - risk^(1/n) can be lost; risk is half of 5 % here."""
    assert drop_bound(0, 0, 250) == pytest.approx(100 * (1 - 0.025 ** (1 / 250)))
    assert images_needed(0, 0, 10, 0.5) == int(np.ceil(np.log(0.025) / np.log(1 - 0.005)))
    assert images_needed(6, 1, 1000, 0.5) is None
    with pytest.raises(UsageError, match="3 answers lost and 8 gained of 10 images cannot be"):
        images_needed(3, 8, 10, 1)


def test_the_exact_bound_covers_at_its_level() -> None:
    """1,000 draws of 300 images, 4 % lost and 2 % gained: the true drop of 2 points is below the bound in at least 95 %."""
    rng = np.random.default_rng(0)
    lost, gained = rng.multinomial(300, [0.04, 0.02, 0.94], 1000).T[:2]
    assert np.mean([drop_bound(int(a), int(b), 300) >= 2.0 for a, b in zip(lost, gained, strict=True)]) >= 0.95


def whole_graph() -> Graph:
    """One linear layer whose weights and inputs are small whole numbers: steps of one in int4 and int8."""
    weights = {"fc.weight": np.array([[7, -7, 3, 1], [7, 7, 7, 7], [-7, -7, -7, -6]], np.float32)}
    nodes = (
        Node("flatten", "Flatten", ("x",), ("flat",), {"axis": 1}),
        Node("fc", "Gemm", ("flat", "fc.weight"), ("fc",), {"transB": 1}),
    )
    return Graph("whole", (Value("x", (-1, 4, 1, 1)),), (Value("fc", (-1, 3)),), nodes, weights)


def test_integer_accumulators_are_as_wide_as_some_input_needs() -> None:
    """Against every input of a small layer: the width holds all partial sums in all orders, one bit less does not."""
    graph = whole_graph()
    x = np.array([[-8, -8, -8, -8], [7, 7, 7, 7]], np.float32).reshape(2, 4, 1, 1)
    ranges = precision.calibrate(graph, x)
    weight = Rule("fc", "weight", parse("int4:symmetric"), scale="channel")
    plan = Plan((weight, Rule("x", "activation", Format.integer(4), scale="tensor")))
    sums = integer_sums(graph, resolve(plan, graph), ranges)["fc"]
    assert (sums.low, sums.high, float(sums.input_step)) == (-8, 7, 1.0)
    np.testing.assert_array_equal(sums.levels, graph.weights["fc.weight"].astype(int))
    # all subsets of terms at any input: the extremes of the partial sums over all orders
    ends = [(min(w * -8, w * 7), max(w * -8, w * 7)) for w in graph.weights["fc.weight"].reshape(3, 4).ravel()]
    rows = [ends[i : i + 4] for i in (0, 4, 8)]
    low, high = min(sum(e[0] for e in row) for row in rows), max(sum(e[1] for e in row) for row in rows)
    assert -(2 ** (sums.bits - 1)) <= low and high <= 2 ** (sums.bits - 1) - 1
    assert low < -(2 ** (sums.bits - 2)) or high > 2 ** (sums.bits - 2) - 1
    exact = graph.weights["fc.weight"] @ x.reshape(2, 4).T
    wide, widths = with_accumulators(graph, plan, ranges)
    assert widths == {"fc": sums.bits}
    np.testing.assert_array_equal(precision.emulate(graph, wide, ranges)(torch.from_numpy(x)).numpy(), exact.T)
    for overflow, narrow in (("wrap", 6), ("saturate", 6)):
        rule = Rule("fc", "accumulator", Format.integer(narrow), "operation", overflow=overflow)
        got = precision.emulate(graph, Plan((*plan.rules, rule)), ranges)(torch.from_numpy(x)).numpy()
        want = np.zeros((2, 3), np.int64)
        for k in range(4):
            want += x.reshape(2, 4)[:, k, None].astype(int) * graph.weights["fc.weight"][None, :, k].astype(int)
            want = (want + 32) % 64 - 32 if overflow == "wrap" else want.clip(-32, 31)
        np.testing.assert_array_equal(got, want)


def test_float_accumulators_of_a_graph_are_those_of_its_module() -> None:
    """The graph's emulation against the emulation of a torch module, two implementations that share only the kernels."""
    x = torch.from_numpy(X[:8])
    by_graph = precision.emulate(GRAPH, Plan((Rule("stem", "accumulator", parse("e8m6"), "operation"),)))(x)
    from convsmith.interop import pytorch

    module = precision.emulate(pytorch.write(GRAPH).eval(), Plan((Rule("stem", "accumulator", parse("e8m6"), "operation"),)), x)
    with torch.no_grad():
        by_module = module(x)
    assert not torch.equal(by_graph, precision.emulate(GRAPH, Plan())(x))
    # the module rounds the addition of the bias too, the graph leaves it in float32: half a unit of e8m6 of the largest sum
    largest = float(precision.calibrate(GRAPH, X[:8])["relu"].high)
    assert float((by_graph - by_module).abs().max()) <= 8 * largest * 2.0**-7
    with pytest.raises(UnsupportedError, match="layer 'stem': a int8 accumulator adds products of scaled integers"):
        precision.emulate(GRAPH, Plan((Rule("stem", "accumulator", Format.integer(8), "operation"),)))

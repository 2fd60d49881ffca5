"""Plans as data: errors, JSON, printing, and what they mean for a network."""

from __future__ import annotations

import json

import pytest
from precision_nets import residual_graph

from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.precision import Layout, LossScale, Phase, Plan, Rule, Start, layout, resolve, table, tensors, uniform
from convsmith.precision.schedule import Clock

MIXED = Plan(
    (
        Rule("*", "weight", Format.float(5, 10)),
        Rule("*", "activation", Format.integer(8), scale="tensor", range="percentile", percentile=99.9),
        Rule("block.*", "weight", Format.fixed(2, 6), rounding="stochastic", overflow="wrap"),
        Rule("fc", "weight", None),
    ),
    "mixed",
)


def test_json_round_trip(tmp_path) -> None:
    assert Plan.from_json(MIXED.to_json()) == MIXED
    json.loads(MIXED.to_json())
    MIXED.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == MIXED
    assert hash(Plan.from_json(MIXED.to_json())) == hash(MIXED)


def test_bad_files(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no plan '.*none\.json'"):
        Plan.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="this is not a plan in JSON: JSONDecodeError"):
        Plan.from_json("{")
    with pytest.raises(DataError, match="this is not a plan in JSON: AttributeError"):
        Plan.from_json("[1]")
    with pytest.raises(UsageError, match="the plan has version 99; this Convsmith reads versions 1 and 2"):
        Plan.from_json('{"version": 99, "rules": []}')
    with pytest.raises(UsageError, match=r"a rule has no field 'formt'; it has layer, .* Did you mean 'format'\?"):
        Rule.from_dict({"layer": "*", "role": "weight", "formt": "int8"})
    with pytest.raises(UsageError, match=r"a rule needs the field 'format' \(format may be null, for float32\); got layer, role"):
        Rule.from_dict({"layer": "*", "role": "weight"})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"role": "weights"}, r"role is 'weights'; allowed are weight, bias, activation, .* Did you mean 'weight'\?"),
        ({"moment": "always"}, "moment is 'always'; allowed are operation, layer, batch"),
        ({"rounding": "nearest"}, "rounding is 'nearest'; allowed are toward_zero, nearest_even"),
        ({"layer": ""}, r"a rule needs a layer name or glob; '\*' means every layer"),
        ({"percentile": 40}, "percentile is 40; it must be above 50 and at most 100"),
        ({"format": Format.integer(8), "role": "activation", "scale": "channel"}, "scale 'channel' is for weights"),
        ({"role": "accumulator"}, "role 'accumulator' is rounded at moment 'operation', not 'layer'"),
        ({"moment": "operation"}, "role 'weight' is rounded at moment 'layer' or 'batch', not 'operation'"),
        ({"random_bits": 0}, "random_bits is 0; allowed are 1 to"),
        ({"scale": "block"}, "scale 'block' needs block, the number of consecutive values that share a step"),
        ({"scale": "dynamic"}, "scale 'dynamic' moves the point of fixed-point formats; e5m10 is none"),
        ({"format": None, "scale": "tensor"}, "scale 'tensor' needs a format"),
        ({"scale": "tensor", "format": Format.integer(8), "overflow": "wrap"}, "scaled numbers saturate; overflow 'wrap' needs"),
        ({"pseudo_gradient": "lsq"}, "pseudo_gradient 'lsq' learns the step of an integer format"),
        ({"role": "error", "pseudo_gradient": "clipped"}, "a pseudo-gradient is for weights, biases and activations"),
        ({"order": "kahan"}, "order and product are for role 'accumulator', not for 'weight'"),
        ({"role": "accumulator", "moment": "operation", "order": "blocked"}, "order 'blocked' needs block"),
    ],
)
def test_rules_that_cannot_be(fields, said) -> None:
    with pytest.raises(UsageError, match=said):
        Rule(**{"layer": "*", "role": "weight", "format": Format.float(5, 10), **fields})


def test_the_last_matching_rule_wins() -> None:
    found = {(a.layer, a.role): a.format_name for a in resolve(MIXED, residual_graph())}
    assert found[("stem", "weight")] == "e5m10"
    assert found[("block.conv", "weight")] == "fixed<2,6>"
    assert found[("fc", "weight")] == "float32"
    assert found[("stem", "bias")] == "float32"
    assert found[("x", "activation")] == "int8"


def test_which_activations_are_stored() -> None:
    """A layer and its ReLU are one store; pooling by maximum and flattening move values; a sum is a store of its own."""
    stored = [a.layer for a in tensors(residual_graph()) if a.role == "activation"]
    assert stored == ["x", "relu", "block.conv", "block.relu", "average", "fc"]


def test_rules_that_match_nothing() -> None:
    graph = residual_graph()
    with pytest.raises(UsageError, match=r"rule 1 \('stm', weight\) matches nothing; .* are stem, block.conv, fc. Did you mean 'stem'\?"):
        resolve(Plan((Rule("stm", "weight", None),)), graph)
    with pytest.raises(UsageError, match=r"rule 2 \('pool', activation\) matches nothing"):
        resolve(Plan((Rule("*", "weight", None), Rule("pool", "activation", None))), graph)
    with pytest.raises(UsageError, match="matches nothing; layers with a tensor of that role are none"):
        resolve(Plan((Rule("*", "bias", None),)), residual_graph(bias=False))


def test_what_belongs_to_training_is_refused_for_a_graph() -> None:
    half, graph = Format.float(5, 10), residual_graph()
    with pytest.raises(UnsupportedError, match=r"role 'error' belongs to training, .* emulate the torch module instead"):
        resolve(Plan((Rule("*", "error", half),)), graph)
    with pytest.raises(UnsupportedError, match="a graph is rounded at moment 'layer', not 'batch'"):
        resolve(Plan((Rule("*", "weight", half, moment="batch"),)), graph)
    with pytest.raises(UnsupportedError, match="scale 'block' is not emulated on a graph"):
        resolve(Plan((Rule("*", "weight", half, scale="block", block=8),)), graph)
    with pytest.raises(UsageError, match="scale 'tensor' of a graph is for integers and binary weights; e5m10 has its own range"):
        resolve(Plan((Rule("*", "weight", half, scale="tensor"),)), graph)
    with pytest.raises(UnsupportedError, match="changes its rules in 1 phases, which belongs to training"):
        resolve(Plan(phases=(Phase(Start("step", 5), ()),)), graph)


def test_exempt_layers_stay_float32() -> None:
    plan = Plan((Rule("*", "weight", Format.float(5, 10)),), exempt=("f*",))
    found = {a.layer: a.format_name for a in resolve(plan, residual_graph()) if a.role == "weight"}
    assert found == {"stem": "e5m10", "block.conv": "e5m10", "fc": "float32"}
    with pytest.raises(UsageError, match=r"exempt 'block.con' matches no layer; there are .* Did you mean 'block.conv'\?"):
        resolve(Plan((Rule("*", "weight", None),), exempt=("block.con",)), residual_graph())


TRAINING = Plan(
    (
        Rule("*", "accumulator", Format.float(5, 10), "operation", order="blocked", block=16, product=Format.float(8, 7)),
        Rule("*", "error", Format.fixed(2, 14), rounding="stochastic", random_bits=8, scale="dynamic", interval=10, max_overflow=0.0),
        Rule("*", "activation", Format.integer(4), scale="tensor", pseudo_gradient="lsq"),
    ),
    "training",
    exempt=("first", "last"),
    master=False,
    loss_scale=LossScale("dynamic", 1024.0, 2.0, 50),
    phases=(Phase(Start("epoch", 2), ()), Phase(Start("stall", patience=2), (Rule("*", "weight", None),))),
)


def test_plans_of_training_in_json() -> None:
    assert Plan.from_json(TRAINING.to_json()) == TRAINING
    text = str(TRAINING)
    for said in (
        "blocked by 16, products e8m7",
        "dynamic scale; 8 random bits",
        "tensor scale; lsq gradient",
        "phase 1, from epoch 2",
        "phase 2, from a stall of the loss: 2 epochs without 1 % less",
        "exempt, in float32: first, last",
        "weights without float32 master copies",
        "loss scale: dynamic from 1024, times 2 after 50 updates without overflow",
    ):
        assert said in text


def test_version_1_is_read() -> None:
    rule = {"layer": "*", "role": "weight", "format": "int8", "moment": "layer", "rounding": "stochastic", "overflow": "saturate"}
    old = {"version": 1, "name": "old", "rules": [rule | {"scale": "channel", "range": "max", "percentile": 99.99}]}
    assert Plan.from_dict(old) == Plan((Rule("*", "weight", Format.integer(8), rounding="stochastic", scale="channel"),), "old")


def test_schedules_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"a phase begins at a step, at an epoch or at a stall; got 'stepp'. Did you mean 'step'\?"):
        Start("stepp", 1)
    with pytest.raises(UsageError, match="a phase begins at step 0; it must be above 0"):
        Start("step", 0)
    with pytest.raises(UsageError, match="the phases begin at step 9, 4; each must begin after the one before"):
        Plan(phases=(Phase(Start("step", 9), ()), Phase(Start("step", 4), ())))
    with pytest.raises(UsageError, match="loss scale is 'auto'; allowed are none, static, dynamic"):
        LossScale("auto")


def test_clock() -> None:
    clock = Clock((Start("step", 3), Start("stall", patience=2, least=0.1), Start("epoch", 5)))
    assert [clock.at_step(step) for step in range(5)] == [0, 0, 0, 1, 1]
    # 1.0 is the best; 0.95 and 0.91 are not a tenth better, twice
    assert [clock.after_epoch(loss) for loss in (1.0, 0.95, 0.91, 0.5)] == [1, 1, 2, 2]
    other = Clock(clock.starts)
    other.load(clock.state())
    assert other.after_epoch(0.4) == clock.after_epoch(0.4) == 3


def test_uniform_names_only_roles_that_exist_and_spares_the_output() -> None:
    half = Format.float(5, 10)
    full, bare = layout(residual_graph()), layout(residual_graph(bias=False))
    assert full == Layout(("activation", "weight", "bias"), ("fc",)) and bare.roles == ("activation", "weight")
    assert [rule.role for rule in uniform(half, half, full).rules] == ["weight", "bias", "activation", "activation"]
    assert [rule.role for rule in uniform(half, half, bare).rules] == ["weight", "activation", "activation"]
    found = {a.layer: a.format_name for a in resolve(uniform(half, half, full), residual_graph()) if a.role == "activation"}
    assert found.pop("fc") == "float32" and set(found.values()) == {"e5m10"}
    assert uniform(None, None) == Plan()
    eight = uniform(Format.integer(8), Format.integer(8))
    assert [(rule.role, rule.scale) for rule in eight.rules] == [("weight", "channel"), ("activation", "tensor")]


def test_tables_say_it_all() -> None:
    text = str(MIXED)
    assert text.splitlines()[0] == "plan mixed"
    assert "block.*" in text and "fixed<2,6>" in text and "stochastic" in text and "tensor scale, 99.9 percentile" in text
    assert str(Plan()) == "plan float32: no rules, everything stays float32"
    lines = table(resolve(MIXED, residual_graph())).splitlines()
    assert lines[0].split() == ["layer", "operator", "role", "format", "moment", "rounding", "overflow", "details"]
    assert len(lines) == 1 + len(tensors(residual_graph()))

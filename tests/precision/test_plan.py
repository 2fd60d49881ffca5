"""Plans as data: errors, JSON, printing, and what they mean for a network."""

from __future__ import annotations

import json

import pytest
from precision_nets import residual_graph

from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.precision import Layout, Plan, Rule, layout, resolve, table, tensors, uniform

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
    with pytest.raises(UsageError, match="the plan has version 99; this Convsmith reads version 1"):
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
        ({"scale": "tensor"}, "scale 'tensor' is for integer formats; e5m10 has its own range"),
        ({"format": Format.integer(8), "role": "activation", "scale": "channel"}, "scale 'channel' is for weights"),
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


def test_roles_and_moments_of_training_are_named_as_unsupported() -> None:
    with pytest.raises(UnsupportedError, match=r"role 'error' belongs to training; this version emulates weight, bias, activation"):
        resolve(Plan((Rule("*", "error", Format.float(5, 2)),)), residual_graph())
    with pytest.raises(UnsupportedError, match=r"moment 'operation' is not emulated yet"):
        resolve(Plan((Rule("*", "weight", Format.float(5, 2), moment="operation"),)), residual_graph())


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
    assert "block.*" in text and "fixed<2,6>" in text and "stochastic" in text and "tensor percentile" in text
    assert str(Plan()) == "plan float32: no rules, everything stays float32"
    lines = table(resolve(MIXED, residual_graph())).splitlines()
    assert lines[0].split() == ["layer", "operator", "role", "format"]
    assert len(lines) == 1 + len(tensors(residual_graph()))

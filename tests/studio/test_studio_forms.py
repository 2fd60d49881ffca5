"""What is typed into a form is what a file of settings would hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsmith.errors import UsageError
from convsmith.jobs import export, train
from convsmith.jobs.configuration import validate
from convsmith.jobs.verbs import find
from convsmith.studio import forms, instructions
from convsmith.studio.api.verbs import offered


def test_texts_become_settings_of_their_types() -> None:
    typed = {
        "data": "digits",
        "epochs": "12",
        "learning_rate": "1e-3",
        "time": "10m",
        "batch": "full",
        "deterministic": "true",
        "training.schedule.milestones": "3, 5.5",
        "training.class_weights": "balanced",
        "training.augment.flip": "alternate",
        "model": "",
    }
    (settings,) = forms.settings(train.Config, typed)
    config = validate(train.Config, settings)
    assert (config.epochs, config.learning_rate, config.time, config.batch, config.deterministic) == (12, 1e-3, 600, "full", True)
    assert config.training.schedule.milestones == (3, 5.5) and config.training.augment.flip == "alternate"
    assert "model" not in settings


def test_lists_of_numbers_make_every_combination() -> None:
    made = forms.settings(train.Config, {"data": "digits", "learning_rate": "0.1, 0.01", "batch": "32,64,128"})
    assert [(one["learning_rate"], one["batch"]) for one in made] == [(r, b) for r in (0.1, 0.01) for b in (32, 64, 128)]
    with pytest.raises(UsageError, match="these lists make 121 combinations; at most 100"):
        forms.settings(train.Config, {"learning_rate": ",".join(["1"] * 11), "epochs": ",".join(["1"] * 11)})
    with pytest.raises(UsageError, match="there is no setting 'lerning_rate'"):
        forms.settings(train.Config, {"lerning_rate": "1"})


def test_a_setting_with_values_of_its_own_stays_one() -> None:
    schema = find("sweep").module.Config
    values = {"verb": "train", "data": "digits", "over": ["learning_rate=0.1,0.01", "batch=32,64"], "fixed": ["epochs=2"]}
    typed = forms.typed(values)
    assert typed["over"] == "learning_rate=0.1,0.01; batch=32,64"
    (again,) = forms.settings(schema, typed)
    assert validate(schema, again) == validate(schema, values)
    assert forms.settings(schema, {"verb": "train", "data": "digits", "over": "batch=32,64"})[0]["over"] == ["batch=32,64"]


def test_bounds_choices_and_defaults_are_those_of_the_schema() -> None:
    fields = {item.name: item for item in forms.inputs(train.Config)}
    assert fields["data"].required and fields["data"].kind == "path" and not fields["model"].required
    assert fields["device"].choices == ("auto", "cpu", "cuda") and fields["device"].shown == "auto"
    assert fields["seed"].least == 0 and fields["seed"].range == "from 0" and fields["training"].kind == "group"
    augment = next(item for item in fields["training"].fields if item.name == "training.augment")
    flip = next(item for item in augment.fields if item.name == "training.augment.flip")
    assert flip.choices == ("true", "false", "alternate") and flip.shown == "no"
    assert {item.name: item for item in forms.inputs(export.Config)}["out"].kind == "path"


@pytest.mark.parametrize("verb", [verb.name for verb in offered()])
def test_every_verb_has_a_form(verb: str) -> None:
    schema = find(verb).module.Config
    assert {item.name for item in forms.inputs(schema)} == set(schema.model_fields)


@given(
    epochs=st.floats(0.5, 100), batch=st.integers(1, 512), deterministic=st.booleans(), kind=st.sampled_from(["cosine", "step", "linear"])
)
def test_settings_survive_being_typed(epochs: float, batch: int, deterministic: bool, kind: str) -> None:
    values = {"data": "digits", "epochs": epochs, "batch": batch, "deterministic": deterministic, "training": {"schedule": {"kind": kind}}}
    (again,) = forms.settings(train.Config, forms.typed(values))
    assert validate(train.Config, again) == validate(train.Config, values)


def test_command_and_python_do_the_same() -> None:
    config = validate(train.Config, {"data": "my images", "epochs": 3, "training": {"momentum": 0.8}})
    told = instructions.both("train", config)
    assert told["command"] == "convsmith train 'my images' --epochs 3 --set training.momentum=0.8"
    asked = re.search(r'perform\("train", (.*)\)\nprint', told["python"], re.DOTALL)
    assert asked and validate(train.Config, eval(asked[1])) == config

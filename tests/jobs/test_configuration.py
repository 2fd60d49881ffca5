"""Settings from many places, and how a mistake in them is told."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from convsmith import jobs
from convsmith.errors import UsageError
from convsmith.jobs import configuration, presets
from convsmith.jobs.check import Config as Check
from convsmith.jobs.train import Config as Train


def test_flags_before_sets_before_file_before_preset_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("data: from-file\nepochs: 1\nbatch: 16\ntraining: {momentum: 0.5, schedule: {kind: step}}\n")
    config = configuration.compose(
        Train,
        preset={"epochs": 9, "batch": 9, "seed": 9, "threads": 9},
        file=file,
        sets=["batch=32", "training.schedule.gamma=0.2", "seed=3"],
        flags={"seed": 4},
    )
    assert (config.data, config.epochs, config.batch, config.seed, config.threads, config.test) == ("from-file", 1, 32, 4, 9, 0.2)
    assert (config.training.momentum, config.training.schedule.kind, config.training.schedule.gamma) == (0.5, "step", 0.2)
    assert configuration.given(config)["training"] == {"momentum": 0.5, "schedule": {"kind": "step", "gamma": 0.2}}


def test_json_files_and_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"data": "x", "show": 3}))
    assert configuration.compose(Check, file=file).show == 3
    file.write_text("{")
    with pytest.raises(UsageError, match=r"--config .*settings\.json is not valid JSON"):
        configuration.read_file(file)
    with pytest.raises(UsageError, match=r"--config .*none\.yaml cannot be read: No such file"):
        configuration.read_file(tmp_path / "none.yaml")
    other = tmp_path / "a.yaml"
    other.write_text("- 1\n- 2\n")
    with pytest.raises(UsageError, match="holds a list; it must hold settings"):
        configuration.read_file(other)
    other.write_text("a: [")
    with pytest.raises(UsageError, match="is not valid YAML"):
        configuration.read_file(other)
    other.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        configuration.read_file(other)
    other.write_text("")
    assert configuration.read_file(other) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "x", "epoch": 3}, r"there is no setting epoch\. Did you mean 'epochs'\? Allowed here: data, val, test"),
        ({"data": "x", "training": {"momentun": 1}}, r"there is no setting training\.momentun\. Did you mean 'momentum'\?"),
        ({"data": "x", "training": {"schedule": {"knd": 1}}}, r"there is no setting training\.schedule\.knd\. Did you mean 'kind'\?"),
        ({"data": "x", "epochs": -1}, r"epochs: should be greater than 0, got -1"),
        ({"data": "x", "batch": "many"}, r"batch: .*'full' or 'find', got 'many'"),
        ({"data": "x", "time": "10x"}, r"time: '10x' is not a duration; write a number of seconds above 0, or for example 90s, 10m, 1h30m"),
        ({"data": "x", "training": {"schedule": {"kind": "cosin"}}}, r"training\.schedule\.kind: should be 'constant', .*got 'cosin'"),
        ({"data": "x", "training": {"nesterov": True, "momentum": 0}}, r"training: nesterov=true needs momentum above 0"),
        ({}, r"DATA is missing: images: a folder of class folders"),
    ],
)
def test_mistakes_are_told_in_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        configuration.validate(Train, values)


def test_set_reads_yaml_values_and_nests() -> None:
    assert configuration.parse_set("a.b-c=[1, 2]") == {"a": {"b_c": [1, 2]}}
    assert configuration.parse_set("x=true") == {"x": True} and configuration.parse_set("x=") == {"x": None}
    assert configuration.parse_set("x=a=b") == {"x": "a=b"} and configuration.parse_set("x=[") == {"x": "["}
    for wrong in ("x", "=3", "a..b=3"):
        with pytest.raises(UsageError, match=r"is not of the form a\.b=value"):
            configuration.parse_set(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2 min", 120), (7, 7), (" 1D ", 86400)]
)
def test_durations(text: object, seconds: float) -> None:
    assert jobs.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5s", "0", "1h 30", "nan", "inf", None, True, "1e3"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        jobs.parse_duration(text)


def test_presets_are_valid_and_named() -> None:
    for verb, named in presets.PRESETS.items():
        for name in named:
            assert configuration.compose(Train, preset=presets.find(verb, name), flags={"data": "digits"}).data == "digits"
    with pytest.raises(UsageError, match=r"--preset quik is not known; there are: quick, .* Did you mean 'quick'\?"):
        presets.find("train", "quik")
    with pytest.raises(UsageError, match="there are: none for this verb"):
        presets.find("check", "quick")


def test_the_command_that_asks_for_the_same() -> None:
    given = {
        "data": "my photos",
        "epochs": 3.0,
        "time": "90s",
        "deterministic": True,
        "weights": None,
        "training": {"betas": [0.8, 0.9], "schedule": {"kind": "cosine"}, "augment": {"flip": True}},
    }
    config = configuration.validate(Train, given)
    words = configuration.command("train", config)
    assert words[:3] == ["convsmith", "train", "my photos"]
    assert words[3:8] == ["--time", "90", "--epochs", "3", "--deterministic"]
    sets = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
    again = configuration.compose(Train, sets=sets, flags={"data": "my photos", "epochs": 3, "time": "90", "deterministic": True})
    assert again == config

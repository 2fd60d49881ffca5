"""What the command line loads, and what it says before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import convsmith
from convsmith.jobs.verbs import VERBS

Call = Callable[..., tuple[int, str, str]]
HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "matplotlib",
    "optuna",
    "jinja2",
    "convsmith.studio",
)


@pytest.mark.parametrize("verb", [None, *VERBS, "runs"])
def test_help_loads_nothing_heavy(verb: str | None) -> None:
    words = [verb, "--help"] if verb else ["--help"]
    code = f"""
import sys
from convsmith.cli.main import main
code = main({words!r})
sys.exit(f"{{code}} {{[name for name in {HEAVY!r} if name in sys.modules]}}")
"""
    environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == "0 []\n" and "Usage: convsmith" in done.stdout


def test_help_names_every_verb_in_the_order_of_the_flow(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    places = [out.index(f"│ {name} ") for name in [*VERBS, "runs"]]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(call: Call, verb: str) -> None:
    code, out, _ = call(verb, "--help")
    assert code == 0 and f"Usage: convsmith {verb}" in out
    assert all(flag in out for flag in ("--config FILE", "--set KEY=VALUE", "--print-config", "--json"))


def test_a_default_time_is_shown_as_people_write_it(call: Call) -> None:
    assert "[default: 10m]" in call("forge", "--help")[1]


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"{convsmith.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "x"], "error: there is no verb 'trian'; there are forge, check,"),
        (["trian"], "Did you mean 'train'?"),
        (["train", "digits", "--epoks", "3"], "error: Unknown option: --epoks. Did you mean --epochs?"),
        (["train", "digits", "--device", "cudaa"], "error: Invalid value 'cudaa' for --device. Choose from: 'auto', 'cpu', 'cuda'."),
        (["train", "digits", "--epochs", "many"], "error: Invalid value for --epochs: unable to convert 'many' into float."),
        (["train", "digits", "--epochs"], "parameter --epochs requires an argument"),
        (["train"], "error: DATA is missing: images: a folder of class folders"),
        (["train", "digits", "--set", "training.momentun=1"], "there is no setting training.momentun. Did you mean 'momentum'?"),
        (["train", "digits", "--set", "x"], "error: --set 'x' is not of the form a.b=value"),
        (["train", "digits", "--preset", "quik"], "Did you mean 'quick'?"),
        (["train", "digits", "--model", "resnet81"], "Did you mean 'resnet18'?"),
        (["check", "digits", "more"], "error: Unused Tokens: ['more']."),
        (["runs", "shw", "x"], "Did you mean 'show'?"),
        (["resume", "nothing"], "there is no run 'nothing'"),
        (["predict", "nothing.onnx", "x.png"], "there is no image 'x.png'"),
        (["inspect", "lenet6"], "Did you mean 'lenet5'?"),
        (["eval"], "error: RUN is missing"),
    ],
)
def test_wrong_usage_is_one_clear_block_and_code_2(call: Call, words: list[str], message: str) -> None:
    code, out, err = call(*words)
    assert code == 2 and out == ""
    assert message in err and "Traceback" not in err and "╭" not in err


def test_errors_are_one_json_document_too(call_json: Callable[..., tuple[int, dict[str, object]]]) -> None:
    code, found = call_json("train", "digits", "--epoks", "3")
    assert code == 2 and found == {
        "verb": "train",
        "ok": False,
        "run": None,
        "error": {"kind": "UsageError", "message": "Unknown option: --epoks. Did you mean --epochs?", "exit_code": 2},
    }
    code, found = call_json("check", "no-such-folder")
    assert code == 3 and found["error"]["kind"] == "DataError"  # type: ignore[index]


def test_an_unexpected_error_is_told_without_traceback_unless_asked(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from convsmith.jobs import preparation

    def fail(*_: object) -> None:
        raise RuntimeError("broken inside")

    monkeypatch.setattr(preparation, "prepare", fail)
    code, out, err = call("train", "digits", "--out", tmp_path / "run")
    assert code == 1 and out == "" and "Traceback" not in err
    assert "error: unexpected RuntimeError: broken inside" in err and "set CONVSMITH_DEBUG=1 to see where" in err
    monkeypatch.setenv("CONVSMITH_DEBUG", "1")
    assert "Traceback" in call("train", "digits")[2]


def test_memory_and_disk_are_code_4(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsmith.jobs import preparation

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "weights.bin")

    def memory(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes: not enough memory")

    monkeypatch.setattr(preparation, "prepare", full)
    code, _, err = call("train", "digits")
    assert code == 4 and "error: the disk is full while writing weights.bin; free some space" in err
    monkeypatch.setattr(preparation, "prepare", memory)
    code, _, err = call("train", "digits")
    assert code == 4 and "error: the memory ran out; use a smaller batch (--batch)" in err

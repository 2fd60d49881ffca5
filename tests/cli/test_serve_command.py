"""The verb that serves: a run is compiled, tuned and served; Ctrl-C ends it with its counts."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]


@pytest.mark.slow
def test_a_run_is_served_until_it_is_interrupted(trained: Path, call_json: CallJson, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20), np.uint8)).save(file, "PNG")
    (tmp_path / "x.png").write_bytes(file.getvalue())
    expected = call_json("predict", trained, tmp_path / "x.png")[1]["result"]["predictions"][0]
    words = [sys.executable, "-m", "convsmith.cli", "serve", str(trained), "--port", "0", "--workers", "1", "--name", "digits"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "POST an image to" in line)
        found = re.search(r"digits: POST an image to (http://127\.0\.0\.1:\d+)/predict; KServe v2 at", line)
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/predict", data=file.getvalue()) as answer:
            best = json.load(answer)["best"]
        assert [item["class"] for item in best] == [item["class"] for item in expected["best"]]
        # another engine's float32 sums; the server rounds to 6 digits
        assert best[0]["score"] == pytest.approx(expected["best"][0]["score"], abs=1e-5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and re.search(r"answered 200 +1\n", out)


def test_what_cannot_be_served_is_said(call: Call, tmp_path: Path) -> None:
    code, _, err = call("serve", tmp_path / "none.onnx")
    assert code == 2 and "there is no file" in err
    (tmp_path / "x.onnx").write_bytes(b"x")
    code, _, err = call("serve", tmp_path / "x.onnx", "--name", "a/b", "--port", 0)
    assert code == 2 and "'a/b' cannot be a model's name in a path" in err
    code, _, err = call("serve", tmp_path / "x.onnx", "--port", 0, "--workers", 1)
    assert code == 4 and "no worker came up: ONNX Runtime cannot open x.onnx" in err


def test_a_card_is_written_and_kept_by_later_exports(call: Call, call_json: CallJson, trained: Path, tmp_path: Path) -> None:
    code, found = call_json("card", trained, "--license", "mit", "--intended", "Reading digits.", "--out", tmp_path / "README.md")
    assert code == 0 and (tmp_path / "README.md").read_text() == found["result"]["text"]
    code, found = call_json("export", trained, "--to", "qonnx", "--plan", "int4", "--out", tmp_path / "digits.qonnx")
    assert code == 0 and found["result"]["parity"]["disagreements"] == [] and found["result"]["parity"]["images"] == 359
    text = (trained / "MODEL_CARD.md").read_text()
    assert "license: mit" in text and "Reading digits." in text and "qonnx (" in text and "parameters" in text
    code, _, err = call("card", trained, "--out", tmp_path / "README.md")
    assert code == 2 and "README.md exists; give another --out, or --overwrite" in err

"""One small trained run for all tests of the command line, and a way to call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convsmith import jobs
from convsmith.cli.main import main


@pytest.fixture(autouse=True)
def runs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "runs"
    monkeypatch.setenv("CONVSMITH_RUNS", str(root))
    monkeypatch.delenv("CONVSMITH_DEBUG", raising=False)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the bundled digits, two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "digits-run"
    jobs.perform("train", {"data": "digits", "epochs": 2, "threads": 1, "deterministic": True}, out=folder)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def call_json(call: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, Any]]:
    """Run a command line with --json; stdout must be one document, stderr empty."""

    def run(*words: object) -> tuple[int, Any]:
        code, out, err = call(*words, "--json")
        assert err == ""
        return code, json.loads(out)

    return run


@pytest.fixture
def write_images() -> Callable[..., Path]:
    """Write class folders of grey noise around a class's own brightness, different in every file."""

    def write(folder: Path, counts: dict[str, int], side: int = 8) -> Path:
        rng = np.random.default_rng(0)
        for place, (name, count) in enumerate(counts.items()):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = np.clip(rng.normal(60 + 120 * place, 20, (side, side)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{index}.png")
        return folder

    return write

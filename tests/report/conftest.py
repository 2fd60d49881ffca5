"""A run to report on, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_run import write_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run; tests read it only."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    write_run(folder)
    return folder

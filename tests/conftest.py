"""Fixtures every room uses."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; read when torch is loaded


# what a test measures is neither taken from nor left in the user's own cache
os.environ["CONVSMITH_TUNING"] = str(Path(tempfile.mkdtemp(prefix="convsmith-tests-")) / "tuning.json")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with ``data/`` and ``weights/`` that CONVSMITH_DATA names; the test is skipped without it."""
    folder = os.environ.get("CONVSMITH_DATA")
    if not folder:
        pytest.skip("CONVSMITH_DATA is not set")
    path = Path(folder)
    if not (path / "data").is_dir():
        pytest.skip(f"CONVSMITH_DATA names {folder}, which has no data folder")
    return path

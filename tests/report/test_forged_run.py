"""The page of a real run, so that every file is read as the jobs write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_reader import read_page

from convsmith.jobs import lifecycle
from convsmith.report.sections import SECTIONS


@pytest.mark.slow
def test_page_of_a_forged_run_is_complete(tmp_path: Path) -> None:
    settings = {"data": "digits", "epochs": 1, "time": 60, "bits_images": 40}
    lifecycle.perform("forge", settings, out=tmp_path / "run")
    page = read_page((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert "could not be read" not in page.text
    for section in SECTIONS:
        assert (section.absent in page.text) == (section.key in ("averages", "certificate")), (
            "forge weighs no averages, proves nothing, and says so"
        )
    assert [figure for figure in ("Accuracy", "Size", "Latency", "Bits") if figure not in page.words] == []
    pictures = [a["aria-label"].split(":")[0].split(",")[0] for a in page.all("svg") if a.get("role") == "img"]
    for start in ("Loss over epochs", "Accuracy over epochs", "Learning rate over epochs", "Reliability diagram", "Accuracy against bits"):
        assert start in pictures

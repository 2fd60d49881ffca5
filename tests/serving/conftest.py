"""One exported program for all tests of the room, and one server that most of them ask."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "targets"))

from running import running
from target_nets import small_graph

from convsmith import targets
from convsmith.data.preprocess import Preprocess
from convsmith.serving import Limits, Server

LABELS = ("ant", "bee", "cat", "dog")
PREPROCESS = Preprocess(12, 10, 3, "crop", 0.875, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
LIMITS = Limits(body_bytes=200_000, pixels=1_000_000, images=8, head_s=2.0)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "net.program"
    confidence = targets.Confidence(5.0, 0.6)
    targets.export(small_graph(), PREPROCESS, LABELS, path, target="native", confidence=confidence)
    return path


@pytest.fixture(scope="session")
def server(program: Path) -> Iterator[Server]:
    with running(program, workers=2, limits=LIMITS) as found:
        yield found

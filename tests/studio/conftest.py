"""A studio over a few runs that no network was trained for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from convsmith import runs, studio
from convsmith.queue import starting

ADDRESS = "http://127.0.0.1:8420"


def write_run(root: Path, name: str, *, epochs: int = 3, **summary: object) -> runs.Record:
    """Write a run as `train` would, without training: ``epochs`` events, then the end."""
    record = runs.create(
        root / name, "train", {"data": "digits", "epochs": epochs}, data="digits", command=["convsmith", "train", "digits"]
    )
    record.event("plan", epochs=epochs, steps=10 * epochs)
    for epoch in range(1, epochs + 1):
        accuracy = 0.9 if epoch == 2 else 0.5 + epoch / 100
        record.event("epoch", epoch=float(epoch), loss=1 / epoch, accuracy=accuracy, val_loss=1.1 / epoch, val_accuracy=accuracy, lr=0.1)
    record.finish("finished", **{"top1": 0.75, "model": "smallnet"} | summary)
    return record


@pytest.fixture
def make_run() -> Callable[..., runs.Record]:
    """How to write a further run."""
    return write_run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    (place / "runs").mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("CONVSMITH_RUNS", str(place / "runs"))
    write_run(place / "runs", "first")
    write_run(place / "runs", "second", top1=0.8)
    return place / "runs"


@pytest.fixture
def made(root: Path) -> Iterator[FastAPI]:
    yield studio.app(root)
    for worker in starting._STARTED:  # it would wait ten minutes for the next job
        worker.kill()
        worker.wait()
    starting._STARTED.clear()


@pytest.fixture
def stranger(made: FastAPI) -> Iterator[TestClient]:
    """A browser that nobody let in."""
    with TestClient(made, base_url=ADDRESS) as client:
        yield client


@pytest.fixture
def client(made: FastAPI) -> Iterator[TestClient]:
    """A program that sends the token."""
    with TestClient(made, base_url=ADDRESS, headers={"authorization": f"Bearer {made.state.studio.entry.token}"}) as client:
        yield client


@pytest.fixture
def browser(made: FastAPI) -> Iterator[TestClient]:
    """A browser that came in through the address with the token."""
    with TestClient(made, base_url=ADDRESS) as client:
        client.get("/login", params={"token": made.state.studio.entry.token})
        yield client

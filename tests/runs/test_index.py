"""The list of runs agrees with the folders, whatever happens to the index."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.runs import index


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVSMITH_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def write_some(number: int) -> None:
    for step in range(5):
        made = runs.create(None, "train", {"writer": number}, data="digits")
        made.event("epoch", epoch=1)
        made.finish(writer=number, step=step)


def test_ten_concurrent_writers_lose_nothing(root: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(10) as pool:
        pool.map(write_some, range(10), chunksize=1)
    with sqlite3.connect(root / "index.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        noted = {row[0] for row in connection.execute("SELECT name FROM runs")}
    connection.close()
    listed = runs.entries(root)
    assert {(entry.summary["writer"], entry.summary["step"]) for entry in listed} == {(w, s) for w in range(10) for s in range(5)}
    assert noted <= {entry.name for entry in listed} and len(noted) == 50
    assert all(entry.status == "finished" for entry in listed)
    assert not list(root.rglob("*.part"))


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "foreign", "stale"])
def test_the_index_is_rebuilt(root: Path, damage: str) -> None:
    for number in range(3):
        runs.create(None, "train", {}, data="digits").finish(number=number)
    runs.entries(root)
    file = root / "index.sqlite"
    if damage == "missing":
        file.unlink()
    elif damage == "text":
        file.write_text("this is no database" * 200)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "foreign":
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA user_version = 77")
        connection.commit()
        connection.close()
    else:
        connection = sqlite3.connect(file)
        connection.execute("""UPDATE runs SET stamp = 'old', described = '{"wrong": 1}'""")
        connection.commit()
        connection.close()
    assert [entry.summary["number"] for entry in runs.entries(root)] == [0, 1, 2]
    assert {name for name, _ in index._read(root).items()} == {entry.name for entry in runs.entries(root)}


def test_folders_are_the_truth(root: Path, tmp_path: Path) -> None:
    runs.create(None, "train", {}, data="a").finish()
    second = runs.create(None, "train", {}, data="b")
    second.finish(top1=0.5)
    assert len(runs.entries(root)) == 2
    second.folder.rename(root / "moved")
    (root / "not-a-run").mkdir()
    strange = root / "strange"
    strange.mkdir()
    (strange / "run.json").write_text(json.dumps({"schema": 99}))
    listed = {entry.name: entry for entry in runs.entries(root)}
    assert listed["moved"].summary == {"top1": 0.5} and len(listed) == 3
    assert listed["strange"].status == "unreadable" and "run schema 99" in str(listed["strange"].error)
    assert runs.entries(tmp_path / "nowhere") == []


def test_a_root_that_cannot_be_written_is_still_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.create(None, "train", {}, data="a").finish()
    (root / "index.sqlite").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    assert len(runs.entries(root)) == 1


def test_a_run_outside_the_root_gets_no_index_beside_it(root: Path, tmp_path: Path) -> None:
    runs.create(tmp_path / "elsewhere", "train", {}).finish()
    assert not (tmp_path / "index.sqlite").exists()


def test_find_takes_a_path_a_name_a_beginning_and_last(root: Path) -> None:
    first = runs.create(None, "train", {}, data="flowers")
    first.finish()
    second = runs.create(None, "check", {}, data="digits")
    second.finish()
    assert runs.find(str(first.folder), root) == first.folder
    assert runs.find(first.folder.name, root) == first.folder
    assert runs.find("last", root) == second.folder
    with pytest.raises(UsageError, match="is the beginning of 2 runs"):
        runs.find(first.folder.name[:5], root)
    with pytest.raises(UsageError, match=f"Did you mean '{first.folder.name}'"):
        runs.find(first.folder.name.replace("flowers", "flowrs"), root)
    with pytest.raises(UsageError, match=r"is not a run: it has no run\.json"):
        runs.find(root, root)


def test_remove_takes_runs_only(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runs.create(None, "train", {}, data="a")
    made.finish()
    (root / "photos").mkdir()
    (root / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="is not a run"):
        runs.remove(root / "photos")
    (tmp_path / "link").symlink_to(made.folder)
    with pytest.raises(UsageError, match="is a symbolic link"):
        runs.remove(tmp_path / "link")
    inner = runs.create(made.folder / "inner", "train", {})
    inner.finish()
    with pytest.raises(UsageError, match=r"holds other runs \(inner\)"):
        runs.remove(made.folder)
    runs.remove(inner.folder)
    monkeypatch.chdir(made.folder)
    with pytest.raises(UsageError, match="holds the current folder"):
        runs.remove(made.folder)
    monkeypatch.chdir(tmp_path)
    runs.remove(made.folder)
    assert [path.name for path in root.iterdir() if path.is_dir()] == ["photos"]
    assert (root / "photos" / "a.jpg").exists()

"""The verb: rows kept one by one, an interrupted reproduction that goes on, and what it says when it cannot begin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convsmith import jobs
from convsmith.errors import DataError, UsageError
from convsmith.training import Training, reproductions
from convsmith.training.reproductions import Arm, Claim, Experiment, Paper, Setup, images, running

GUPTA = reproductions.PAPERS["gupta2015"]
RECIPE = Training(epochs=2, batch=50, learning_rate=0.3, momentum=0.0, nesterov=False, checkpoint_s=0)
ARMS = (Arm("float32", None, 1.4, "figure 1"), Arm("stochastic", GUPTA.experiments[0].setup("full").arms[1].plan, seeds=1))
TINY = Experiment(
    "tiny",
    "The bundled digits",
    "mnist",
    "mlp",
    {"quick": Setup(ARMS, RECIPE, images=150, seeds=2, options={"hidden": (16,)}, shortened="nearly everything")},
    claims=(Claim("within", "rounding costs at most 50 points", "stochastic", 50.0),),
    differs=("the images",),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVSMITH_RUNS", str(tmp_path))
    monkeypatch.setitem(
        reproductions.PAPERS, "tiny2026", Paper("tiny2026", "Nobody 2026, Tiny", "Digits.", (TINY, replace(TINY, key="more")))
    )
    monkeypatch.setattr(images, "locate", lambda name, root: Path("digits"))
    real = images.open_images
    monkeypatch.setattr(images, "open_images", lambda experiment, setup, source, size: real(experiment, setup, source, (1, 8, 8)))


def rows(folder: Path) -> list[dict[str, object]]:
    found = json.loads((folder / "results.json").read_text())["rows"]
    told = [{key: value for key, value in row.items() if key != "seconds"} for row in found]
    return sorted(told, key=lambda row: (row["experiment"], row["seed"], row["arm"]))


def test_the_whole_verb(tmp_path: Path) -> None:
    shown: list[str] = []
    watch = jobs.Watch(show=lambda progress: shown.append(progress.stage))
    config = {"paper": "tiny2026", "quick": True, "only": ("tiny",), "threads": 1}
    outcome = jobs.perform("reproduce", config, out=tmp_path / "run", watch=watch)
    assert [(row["arm"], row["seed"]) for row in rows(tmp_path / "run")] == [("float32", 0), ("stochastic", 0), ("float32", 1)]
    assert sorted(path.name for path in (tmp_path / "run" / "results").iterdir()) == [
        "tiny_float32_0.json",
        "tiny_float32_1.json",
        "tiny_stochastic_0.json",
    ]
    assert not list((tmp_path / "run" / "checkpoints").iterdir()), "checkpoints of finished arms are dropped"
    text = (tmp_path / "run" / "page.md").read_text()
    assert "Nobody 2026, Tiny." in text and "| float32 | 1.40 | figure 1 |" in text and "What differs from the paper" in text
    told = jobs.verbs.find("reproduce").module.lines(outcome.result)
    assert "shortened: nearly everything" in told and "holds    rounding costs at most 50 points" in told
    assert outcome.result["summary"]["claims"] == "1 of 1 hold" and "tiny" in shown
    report = (tmp_path / "run" / "report.html").read_text()
    assert "The paper&#39;s figures beside ours" in report and "Nothing was trained" not in report


def test_ctrl_c_and_resume_give_the_rows_of_an_uninterrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"paper": "tiny2026", "quick": True, "threads": 1}
    jobs.perform("reproduce", config, out=tmp_path / "whole")
    real, begun = running.run_arm, []

    def cut(experiment, arm, setup, seed, opened, *, show, **more):
        def noisy(what: str, done: float, total: float, **fields: object) -> None:
            show(what, done, total, **fields)
            if len(begun) == 2 and what == "train" and done == 5:
                raise KeyboardInterrupt

        begun.append((experiment.key, arm.name, seed))
        return real(experiment, arm, setup, seed, opened, show=noisy, **more)

    monkeypatch.setattr(running, "run_arm", cut)
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("reproduce", config, out=tmp_path / "cut")
    assert begun == [("tiny", "float32", 0), ("tiny", "stochastic", 0)]
    assert "| float32 | 1.40 |" in (tmp_path / "cut" / "page.md").read_text(), "the page has what was finished"
    monkeypatch.setattr(running, "run_arm", real)
    jobs.perform("resume", {"run": str(tmp_path / "cut")})
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole") and len(rows(tmp_path / "cut")) == 6


def test_seeds_can_be_asked_for_and_every_arm_has_them(tmp_path: Path) -> None:
    jobs.perform("reproduce", {"paper": "tiny2026", "quick": True, "only": ("tiny",), "seeds": 1, "threads": 1}, out=tmp_path / "one")
    assert [(row["arm"], row["seed"]) for row in rows(tmp_path / "one")] == [("float32", 0), ("stochastic", 0)]


def test_what_cannot_begin_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"there is no reproduction of 'gupta2051'.*Did you mean 'gupta2015'?"):
        jobs.perform("reproduce", {"paper": "gupta2051"}, out=tmp_path / "run")
    with pytest.raises(UsageError, match="tiny2026 has no experiment 'tinny'"):
        jobs.perform("reproduce", {"paper": "tiny2026", "only": ("tinny",)}, out=tmp_path / "run")
    with pytest.raises(UsageError, match="PAPER is missing: paper: gupta2015"):
        jobs.perform("reproduce", {}, out=tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"there is no mnist in .*data.load_public"):
        jobs.perform("reproduce", {"paper": "rips2017", "data": tmp_path / "nowhere"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_experiments_without_images_are_passed_over_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    houses = replace(TINY, key="houses", data="svhn")
    monkeypatch.setitem(reproductions.PAPERS, "two2026", Paper("two2026", "Nobody 2026, Two", "Digits.", (TINY, houses)))

    def locate(name: str, root: Path | None) -> Path:
        if name == "svhn":
            raise DataError("there is no svhn in 'data/svhn'; put the published files there")
        return Path("digits")

    monkeypatch.setattr(images, "locate", locate)
    told: list[str] = []
    watch = jobs.Watch(hear=lambda kind, fields: told.append(fields.get("text", "")) if kind == "stage" else None)
    jobs.perform("reproduce", {"paper": "two2026", "quick": True, "seeds": 1, "threads": 1}, out=tmp_path / "run", watch=watch)
    assert "houses: not run, there is no svhn in 'data/svhn'; put the published files there" in told
    assert {row["experiment"] for row in rows(tmp_path / "run")} == {"tiny"}
    assert "Not run." in (tmp_path / "run" / "page.md").read_text()
    with pytest.raises(DataError, match="there is no svhn in"):
        jobs.perform("reproduce", {"paper": "two2026", "quick": True, "only": ("houses",)}, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()

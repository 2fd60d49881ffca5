"""Images as the studio shows them are those that training reads, and a network asked in the browser answers as the command line does."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from convsmith import data, jobs, models, runs, studio
from convsmith.errors import UsageError

ADDRESS = "http://127.0.0.1:8420"


def pixels(content: bytes) -> NDArray[np.uint8]:
    found = np.asarray(Image.open(io.BytesIO(content)))
    return found[:, :, None] if found.ndim == 2 else found


def ready(client: TestClient, address: str) -> dict[str, Any]:
    for _ in range(600):
        told: dict[str, Any] = client.get(address).json()
        if told.get("state") != "working":
            return told
        time.sleep(0.05)
    pytest.fail(f"{address} was never ready")


def test_what_is_shown_is_what_the_folder_holds(client: TestClient) -> None:
    told = ready(client, "/api/images/look?source=digits")
    dataset = data.open("digits")
    assert told["classes"] == list(dataset.classes) and told["parts"] == {name: len(split) for name, split in dataset.splits.items()}
    assert told["counts"] == {name: counts.tolist() for name, counts in dataset.counts().items()}
    threes = client.get("/api/images/gallery?source=digits&part=test&label=3&size=10&page=2").json()
    expected = np.flatnonzero(dataset.splits["test"].labels == 3)
    assert [image["index"] for image in threes["images"]] == expected[10:20].tolist() and threes["total"] == len(expected)
    picture = client.get("/api/images/picture?source=digits&part=test&index=7").content
    assert np.array_equal(pixels(picture), dataset.splits["test"].image(7))
    shape = data.Preprocess(20, 20, 1, resize="squash", mean=(0.5,), std=(0.5,))
    resized = client.get("/api/images/resized?source=digits&part=test&index=7&mode=squash&size=20").content
    assert np.array_equal(pixels(resized), data.resize(dataset.splits["test"].image(7), shape))
    mean = pixels(client.get("/api/images/mean?source=digits&part=val").content)
    every = np.stack([dataset.val.image(index) for index in range(len(dataset.val))]).astype(np.float64)
    assert np.abs(mean - every.mean(axis=0)).max() <= 0.5


def test_the_check_finds_what_the_verb_finds(client: TestClient) -> None:
    ready(client, "/api/images/look?source=digits")
    told = ready(client, "/api/images/check?source=digits")
    health = data.check("digits")
    assert told["state"] == "ready" and told["health"]["images"] == health.images
    kinds = [finding.kind for finding in health.findings or ()]
    assert {group["kind"]: group["count"] for group in told["groups"]} == {kind: kinds.count(kind) for kind in set(kinds)}


def test_images_that_cannot_be_are_told(client: TestClient, root: Path) -> None:
    (root.parent / "empty").mkdir()
    told = ready(client, "/api/images/look?source=empty")
    assert told["state"] == "failed" and told["error"]
    assert client.get("/api/images/gallery?source=empty").status_code == 400
    ready(client, "/api/images/look?source=digits")
    assert client.get("/api/images/gallery?source=digits&part=nothing").status_code == 404
    assert client.get("/api/images/picture?source=digits&part=train&index=99999").status_code == 404
    assert client.get("/api/images/found?source=digits&name=nothing").status_code == 404
    assert client.get("/images?source=/etc").status_code == 403
    assert client.get("/images?source=digits").status_code == 200 and client.get("/images").status_code == 200


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `train` of half an epoch."""
    place = tmp_path_factory.mktemp("trained")
    settings = {"data": "digits", "model": "logistic", "epochs": 0.5, "device": "cpu", "threads": 1, "training": {"snapshots": 2}}
    jobs.perform("train", settings, out=place / "runs" / "small")
    return place / "runs"


@pytest.fixture
def asked(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.chdir(trained.parent)
    monkeypatch.setenv("CONVSMITH_RUNS", str(trained))
    made: FastAPI = studio.app(trained)
    with TestClient(made, base_url=ADDRESS, headers={"authorization": f"Bearer {made.state.studio.entry.token}"}) as client:
        yield client
    made.state.studio.looker.close()


@pytest.mark.slow
def test_a_network_answers_as_the_command_line_does(asked: TestClient, trained: Path, tmp_path: Path) -> None:
    ready(asked, "/api/runs/small/images")
    picture = asked.get("/api/runs/small/tested/3?side=1024").content
    path = tmp_path / "three.png"
    path.write_bytes(picture)
    told = asked.post("/api/runs/small/classify?top=3", files=[("images", ("a.png", picture)), ("images", ("bad.png", b"nonsense"))]).json()
    expected = jobs.perform("predict", {"run": str(trained / "small"), "images": [str(path)], "top": 3}).result["predictions"][0]["best"]
    assert [row["class"] for row in told["predictions"][0]["best"]] == [row["class"] for row in expected]
    assert np.allclose([row["score"] for row in told["predictions"][0]["best"]], [row["score"] for row in expected], atol=1e-6)
    assert "bad.png" in told["predictions"][1]["error"]
    logits = runs.open(trained / "small").predictions().logits[3]
    assert told["predictions"][0]["best"][0]["class"] == str(int(logits.argmax()))
    refused = asked.post("/api/runs/small/explain", files={"image": ("a.png", picture)}, data={"target": "nothing"})
    assert refused.status_code == 400 and "there is no class 'nothing'" in refused.json()["error"]["message"]
    assert asked.post("/api/runs/absent/classify", files={"images": ("a.png", picture)}).status_code == 404
    drawn = asked.get("/api/network?name=lenet5").json()
    assert sum(node["parameters"] for node in drawn["nodes"]) == models.ZOO["lenet5"].parameters
    assert asked.get("/api/network?name=/etc/passwd").status_code == 404
    sheet = asked.post("/api/images/augment", json={"source": "digits", "augment": {"rotate": 20.0}, "rows": 2, "epochs": 3}).json()
    assert sheet["sheet"].startswith("data:image/png;base64,") and sheet["augment"] == {"rotate": 20.0} and sheet["reasons"] == ["as set"]
    assert asked.post("/api/images/augment", json={"source": "digits", "augment": {"rotate": 999}}).status_code == 400


@pytest.mark.slow
def test_an_earlier_state_of_the_weights_can_be_asked(asked: TestClient, trained: Path, tmp_path: Path) -> None:
    import torch

    from convsmith.jobs.trained import kept, load

    run = runs.open(trained / "small")
    assert kept(run) == {"best": None, "last": 0.5, "snapshot-01": pytest.approx(0.4375, abs=0.02), "snapshot-02": 0.5}
    assert [row["name"] for row in asked.get("/api/runs/small/checkpoints").json()["checkpoints"]] == list(kept(run))
    picture = asked.get("/api/images/picture?source=digits&part=test&index=3&side=1024")
    if picture.status_code != 200:
        ready(asked, "/api/images/look?source=digits")
        picture = asked.get("/api/images/picture?source=digits&part=test&index=3&side=1024")
    path = tmp_path / "three.png"
    path.write_bytes(picture.content)
    (tmp_path / "list.txt").write_text("three.png\tthree\n")
    answers = {}
    for checkpoint in ("", "snapshot-01"):
        told = asked.post(f"/api/runs/small/classify?top=10&checkpoint={checkpoint}", files={"images": ("a.png", picture.content)}).json()
        said = {row["class"]: row["score"] for row in told["predictions"][0]["best"]}
        settings = {"run": str(run.folder), "images": [str(tmp_path / "list.txt")], "top": 10, "checkpoint": checkpoint}
        expected = jobs.perform("predict", settings).result["predictions"]
        assert [row["image"] for row in expected] == [str(path)]
        assert said == pytest.approx({row["class"]: row["score"] for row in expected[0]["best"]}, abs=1e-6)
        answers[checkpoint] = said
    assert answers[""] != answers["snapshot-01"]
    state = torch.load(run.folder / "checkpoints" / "snapshot-01.pt", weights_only=True)["model"]
    assert all(torch.equal(value, state[name]) for name, value in load(run, "snapshot-01").module.state_dict().items())
    assert asked.post("/api/runs/small/classify?checkpoint=../best", files={"images": ("a.png", b"x")}).status_code == 404
    with pytest.raises(UsageError, match="has no checkpoint 'first'; it has best, last, snapshot-01, snapshot-02"):
        jobs.perform("predict", {"run": str(run.folder), "images": [str(path)], "checkpoint": "first"})
    (tmp_path / "list.txt").write_text("three.png\nfour.png\n")
    with pytest.raises(UsageError, match=r"line 2 of '.*list\.txt' names '.*four\.png', which is not there"):
        jobs.perform("predict", {"run": str(run.folder), "images": [str(tmp_path / "list.txt")]})


def test_the_test_images_are_listed_by_what_they_were_taken_for(asked: TestClient, trained: Path) -> None:
    predictions = runs.open(trained / "small").predictions()
    said = predictions.logits.argmax(axis=1)
    wrong = asked.get("/api/runs/small/tested?wrong=true").json()
    assert wrong["total"] == int((said != predictions.labels).sum())
    pair = asked.get("/api/runs/small/tested?true=3&predicted=3").json()
    assert pair["total"] == int(((said == 3) & (predictions.labels == 3)).sum())
    scores = [image["score"] for image in wrong["images"]]
    assert scores == sorted(scores, reverse=True)
    best = asked.get("/api/runs/small/top?per=4").json()["classes"]
    power = np.exp(predictions.logits - predictions.logits.max(axis=1, keepdims=True))
    share = power / power.sum(axis=1, keepdims=True)
    for index, row in enumerate(best):
        assert np.allclose([image["score"] for image in row["images"]], np.sort(share[:, index])[::-1][:4], atol=1e-6)
    page = asked.get("/runs/small").text
    assert 'id="answers"' in page and 'id="gallery"' in page and "/new/export?run=small" in page
    assert asked.get("/networks?name=small").status_code == 200 and asked.get("/networks?name=nothing").status_code == 404

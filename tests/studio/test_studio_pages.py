"""Pages and their JSON: what is shown is what the folders say, and what is asked for happens."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from convsmith import runs, studio
from convsmith.runs import notes
from convsmith.studio import stream
from convsmith.studio.listing import Listing

Making = Callable[..., runs.Record]


def test_the_table_filters_sorts_and_pages(client: TestClient, root: Path) -> None:
    described = json.loads((root / "first" / "run.json").read_text())
    for number in range(120):
        (root / f"many-{number:03d}").mkdir()
        summary = {"top1": number / 200, "model": "smallnet"}
        (root / f"many-{number:03d}" / "run.json").write_text(json.dumps(described | {"summary": summary}))
    client.app.state.studio.listing.rows(fresh=True)  # type: ignore[attr-defined]
    told = client.get("/api/runs", params={"text": "MANY train", "sort": "top1", "page": 2}).json()
    assert told["total"] == 120 and told["pages"] == 2
    assert [row["name"] for row in told["runs"]] == [f"many-{number:03d}" for number in range(19, -1, -1)]
    assert client.get("/api/runs", params={"text": "many-007"}).json()["total"] == 1
    assert client.get("/api/runs", params={"status": "failed"}).json()["total"] == 0
    assert client.get("/api/runs", params={"sort": "nothing"}).status_code == 422
    page = client.get("/", params={"text": "many", "page": 2}).text
    assert "many-000" in page and "many-119" not in page and "page 2 of 2" in page


def test_rows_stand_together_by_group_and_columns_are_picked(client: TestClient, root: Path, make_run: Making) -> None:
    for name, model in (("third", "resnet18"), ("fourth", "smallnet")):
        make_run(root, name, model=model, parameters=1_000_000, seconds=75.0)
    told = client.post("/api/runs/group", json={"names": ["first", "third", "absent"], "group": "  the   <b>paper "}).json()
    assert told["grouped"] == ["first", "third"] and list(told["failed"]) == ["absent"]
    assert notes.read(root / "third") == notes.Notes(version=1, group="the <b>paper")
    client.app.state.studio.listing.rows(fresh=True)  # type: ignore[attr-defined]
    text = client.get("/", params={"by": "group", "sort": "name", "order": "up"}).text
    places = [text.index(f'value="{name}"') for name in ("first", "third", "fourth", "second")]
    assert places == sorted(places), "the group comes first, runs without one last, by name within"
    assert 'scope="rowgroup">the &lt;b&gt;paper</th>' in text and 'scope="rowgroup">without</th>' in text
    assert "c-parameters" not in text and "c-verb" in text
    client.cookies.set("columns", "parameters.seconds.nonsense")
    text = client.get("/").text
    assert "c-parameters" in text and "1,000,000" in text and "c-verb" not in text and "nonsense" not in text.replace('nonsense"', "")
    assert client.get("/api/runs", params={"sort": "parameters"}).json()["runs"][0]["parameters"] == 1_000_000
    assert client.post("/api/runs/group", json={"names": ["first"], "group": "x" * 81}).status_code == 422
    assert client.put("/api/runs/first/notes", json={"title": "t", "version": 1, "group": ""}).json()["group"] == ""


def test_a_waiting_job_is_put_first(client: TestClient, root: Path) -> None:
    from convsmith import queue

    for _ in range(2):
        queue.submit("check", {"data": "digits"}, root=root)
    assert [job["id"] for job in client.get("/api/jobs").json()["jobs"]] == [1, 2]
    page = client.get("/jobs").text
    assert 'data-move-job="2" data-priority="1" aria-label="Start job 2 sooner"' in page
    assert client.put("/api/jobs/2/priority", json={"priority": 1}).json()["priority"] == 1
    assert [job["id"] for job in client.get("/api/jobs").json()["jobs"]] == [2, 1]
    assert client.put("/api/jobs/2/priority", json={"priority": 1001}).status_code == 422
    assert client.put("/api/jobs/9/priority", json={"priority": 1}).status_code == 404
    client.post("/api/jobs/2/abort").raise_for_status()
    refused = client.put("/api/jobs/2/priority", json={"priority": 2})
    assert refused.status_code == 400 and "only a waiting job can be moved" in refused.json()["error"]["message"]


def test_a_new_run_is_listed_within_a_moment_and_a_removed_one_at_once(client: TestClient, root: Path, make_run: Making) -> None:
    assert client.get("/api/runs").json()["total"] == 2
    make_run(root, "third")
    for _ in range(100):
        if client.get("/api/runs").json()["total"] == 3:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the new run was never listed")
    assert client.post("/api/runs/delete", json={"names": ["third", "absent", "third"]}).json() == {
        "removed": ["third"],
        "failed": {"absent": "there is no run 'absent'; it may have been removed"},
    }
    assert client.get("/api/runs").json()["total"] == 2


def test_a_corrupt_index_is_rebuilt_from_the_folders(root: Path, make_run: Making) -> None:
    listing = Listing(root)
    assert len(listing.rows()) == 2
    (root / "index.sqlite").write_bytes(b"not a database" * 100)
    make_run(root, "third")
    assert [row.name for row in listing.select(fresh=True, sort="name", descending=False)] == ["first", "second", "third"]


def test_the_page_of_a_run_shows_its_curves_and_the_best_epoch(client: TestClient) -> None:
    text = client.get("/runs/first").text
    told = json.loads(text.partition('id="curves">')[2].partition("</script>")[0])
    assert told["series"]["val_accuracy"] == {"x": [1.0, 2.0, 3.0], "y": [0.51, 0.9, 0.53]}
    assert told["best"] == {"epoch": 2.0, "accuracy": 0.9} and '<dd class="value" data-best-epoch>2</dd>' in text
    assert "convsmith train digits --epochs 3" in text and "jobs.perform(&#34;train&#34;" in text
    assert client.get("/api/runs/first/curves").json()["best"] == told["best"]


def test_every_form_is_made_from_its_schema(client: TestClient) -> None:
    for verb in client.get("/api/verbs").json()["verbs"]:
        described = client.get(f"/api/verbs/{verb['name']}").json()
        page = client.get(f"/new/{verb['name']}")
        assert page.status_code == 200, verb
        names = [leaf["name"] for field in described["fields"] for leaf in (field["fields"] or [field]) if leaf["kind"] != "group"]
        assert all(f'name="{name}"' in page.text for name in names), verb
        assert set(described["schema"]["properties"]) == {field["name"] for field in described["fields"]}
    assert client.get("/new/nothing").status_code == 404
    assert client.get("/new/resume").status_code == 404


def test_a_clone_fills_the_form_as_the_run_was_started(client: TestClient, root: Path) -> None:
    runs.create(root / "deep", "train", {"data": "digits", "training": {"schedule": {"kind": "cosine"}}, "epochs": 7.5}, data="digits")
    text = client.get("/new/train", params={"clone": "deep"}).text
    assert 'name="epochs" value="7.5"' in text and '<option value="cosine" selected>' in text and 'name="data" value="digits"' in text


def test_notes_of_two_tabs_do_not_overwrite_each_other(client: TestClient, root: Path) -> None:
    assert client.get("/api/runs/first/notes").json() == {"title": "", "text": "", "version": 0, "group": ""}
    assert client.put("/api/runs/first/notes", json={"title": " my   run ", "text": "a", "version": 0}).json()["title"] == "my run"
    late = client.put("/api/runs/first/notes", json={"title": "other", "text": "b", "version": 0})
    assert late.status_code == 409 and late.json()["error"]["found"] == {"title": "my run", "text": "a", "version": 1, "group": ""}
    assert notes.read(root / "first").text == "a"
    assert client.put("/api/runs/first/notes", json={"title": "x" * 201, "version": 1}).status_code == 422
    assert "my run" in client.get("/").text
    (root / "first" / notes.FILE).write_text("{broken")
    assert client.get("/api/runs/first/notes").json()["version"] == 0


def test_a_full_disk_is_told_and_nothing_is_lost(client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client.put("/api/runs/first/notes", json={"title": "kept", "version": 0}).raise_for_status()

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    answer = client.put("/api/runs/first/notes", json={"title": "lost", "version": 1})
    assert answer.status_code == 507 and "the disk is full" in answer.json()["error"]["message"]
    assert notes.read(root / "first").title == "kept"


def test_files_are_taken_home_one_by_one_and_together(client: TestClient, root: Path) -> None:
    assert {file["name"] for file in client.get("/api/runs/first/files").json()["files"]} == {"config.yaml", "events.jsonl", "run.json"}
    assert client.get("/api/runs/first/files/run.json").json()["name"] == "first"
    with zipfile.ZipFile(io.BytesIO(client.get("/api/runs/first/archive").content)) as archive:
        assert archive.testzip() is None
        assert archive.read("first/events.jsonl") == (root / "first" / "events.jsonl").read_bytes()


def read(answer: str) -> list[tuple[str, str]]:
    """Return kind and data of server-sent events."""
    parts = [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in answer.split("\n\n") if block]
    return [(part.get("event", ""), part.get("data", "")) for part in parts]


def test_watching_goes_on_where_it_left_off(client: TestClient, root: Path) -> None:
    events = root / "first" / "events.jsonl"
    told = read(client.get("/api/runs/first/events").text)
    lines = [data for kind, data in told if kind == "event"]
    assert lines == events.read_text().splitlines() and told[-1][0] == "status"
    half = len(("\n".join(lines[:2]) + "\n").encode())
    again = read(client.get("/api/runs/first/events", headers={"last-event-id": f"{half}-0"}).text)
    assert [data for kind, data in again if kind == "event"] == lines[2:]
    after = client.get("/api/runs/first/curves").json()["offset"]
    assert [kind for kind, _ in read(client.get("/api/runs/first/events", params={"after": after}).text)] == ["status"]
    assert stream.offsets("12-34") == (12, 34)
    assert stream.offsets("9" * 30 + "-1") == stream.offsets("x") == stream.offsets("-1-2") == (0, 0)


def test_a_run_that_is_removed_while_watched_says_so(root: Path) -> None:
    import asyncio

    async def watch() -> list[bytes]:
        record = runs.create(root / "live", "train", {"data": "digits"}, data="digits")
        record.event("epoch", epoch=1.0, loss=0.5)
        found: list[bytes] = []

        async def never() -> bool:
            return False

        async for part in stream.follow(root / "live", "", never, lambda: False):
            found.append(part)
            if b"event: status" in part:
                (root / "live").rename(root / ".removed")
        return found

    parts = asyncio.run(watch())
    assert b'"running"' in b"".join(parts) and parts[-1].startswith(b"event: gone")


def test_a_job_is_started_watched_and_aborted(made: FastAPI, client: TestClient, root: Path) -> None:
    refused = client.post("/api/jobs", json={"verb": "train", "typed": {"data": "digits", "epochs": "-1"}})
    assert refused.status_code == 400 and "epochs" in refused.json()["error"]["message"]
    (number,) = client.post("/api/jobs", json={"verb": "inspect", "typed": {}}).json()["jobs"]
    for _ in range(1200):
        job = client.get(f"/api/jobs/{number}").json()
        if not job["active"]:
            break
        time.sleep(0.1)
    assert job["status"] == "finished", client.get(f"/api/jobs/{number}/log").text
    assert "smallnet" in str(job["result"]["names"])
    assert "smallnet" in client.get(f"/jobs/{number}").text
    assert client.post(f"/api/jobs/{number}/abort").status_code == 400
    assert client.get("/api/jobs/999999").status_code == 404
    assert studio.app(root).state.studio.queue.get(number).status == "finished", "another server over the same runs knows the job"


def test_an_error_is_a_page_for_people_and_json_for_programs(client: TestClient) -> None:
    assert client.get("/runs/absent").status_code == 404 and "there is no run &#39;absent&#39;" in client.get("/runs/absent").text
    assert client.get("/api/runs/absent").json()["error"]["kind"] == "NotFound"
    assert client.get("/api/absent").status_code == 404
    assert client.get("/api/runs", params={"page": "x"}).json()["error"]["message"].startswith("page: ")


def test_nothing_comes_from_another_place(client: TestClient) -> None:
    library = client.get("/static/plotly.js")
    assert library.status_code == 200 and len(library.content) > 1_000_000
    assert client.get("/static/..%2fapplication.py").status_code == 404
    assert client.get("/static/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/api").status_code == 200 and "/api/runs/{name}/events" in client.get("/api").text


def test_the_page_shows_the_frontier_that_shrinking_found(client: TestClient, root: Path) -> None:
    point = {"ms": 0.2, "file_bytes": 5000, "frontier": True, "folder": "shrink/int8", "accuracy": 0.97, "test": None}
    points = [point | {"name": "int8"}, point | {"name": "float32", "ms": 0.4, "test": {"accuracy": 0.98}, "frontier": False}]
    (root / "first" / "shrink.json").write_text(json.dumps({"points": points, "chosen": "int8", "max_drop": 0.5, "torch_ms": 1.0}))
    page = client.get("/runs/first").text
    told = json.loads(page.partition('id="frontier">')[2].partition("</script>")[0])
    assert [row["accuracy"] for row in told["points"]] == [0.97, 0.98] and told["chosen"] == "int8"
    assert "first%2Fshrink%2Fint8&amp;to=native" in page
    (root / "first" / "shrink.json").write_text('{"points": [{}]}')
    assert 'id="frontier"' not in client.get("/runs/first").text

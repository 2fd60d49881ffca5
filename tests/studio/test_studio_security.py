"""Every door of the studio, tried from outside."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient

from convsmith import runs, studio
from convsmith.errors import UsageError
from convsmith.studio.access import open_access
from convsmith.studio.guard import JSON_BYTES, Rate
from convsmith.studio.roots import Outside, Roots
from convsmith.studio.settings import Settings

ADDRESS = "http://127.0.0.1:8420"
Making = Callable[..., runs.Record]


def proof(browser: TestClient) -> str:
    found = re.search(r'name="proof" content="([0-9a-f]{64})"', browser.get("/").text)
    assert found
    return found[1]


def test_nothing_is_told_to_a_stranger(made: FastAPI, stranger: TestClient) -> None:
    for path, methods in made.openapi()["paths"].items():
        for method in methods:
            address = re.sub(r"\{\w+(:path)?\}", "1", path)
            assert stranger.request(method.upper(), address).status_code == 401, (method, address)
    for address in ("/", "/runs/first", "/new/train", "/jobs", "/machine", "/compare", "/nothing"):
        answer = stranger.get(address, follow_redirects=False)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/login?next=")
    assert "first" not in stranger.get("/").text


def test_the_token_opens_and_a_wrong_one_does_not(made: FastAPI, stranger: TestClient) -> None:
    assert stranger.get("/login", params={"token": "0" * 64}).status_code == 401
    assert stranger.post("/login", data={"word": "guess"}).status_code == 401
    entered = stranger.post("/login", data={"word": made.state.studio.entry.token, "next": "/jobs"}, follow_redirects=False)
    assert entered.headers["location"] == "/jobs"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert stranger.get("/api/runs").status_code == 200


@pytest.mark.parametrize("place", ["//evil.example", "/\\evil.example", "https://evil.example", "/x\r\nset-cookie: a=b", "javascript:1"])
def test_entering_leads_to_the_studio_alone(made: FastAPI, stranger: TestClient, place: str) -> None:
    entered = stranger.post("/login", data={"word": made.state.studio.entry.token, "next": place}, follow_redirects=False)
    assert entered.headers["location"] == "/"


def test_a_forged_or_old_cookie_is_no_session(made: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = made.state.studio.entry
    cookie = entry.issue()
    assert entry.session(cookie, None) is not None
    told, _, signature = cookie.rpartition(".")
    id, _, until = told.partition(".")
    for forged in ("", "x", f"{id}.{int(until) + 1}.{signature}", f"{id}x.{until}.{signature}", f"{told}.{signature[::-1]}"):
        assert entry.session(forged, None) is None
    assert entry.session(None, "Bearer " + "0" * 64) is None
    assert entry.session(None, "Basic " + entry.token) is None
    monkeypatch.setattr("convsmith.studio.access.time.time", lambda: int(until) + 1.0)
    assert entry.session(cookie, None) is None


def test_a_change_from_another_site_is_refused(browser: TestClient, root: Path) -> None:
    refused = browser.delete("/api/runs/first")
    assert refused.status_code == 403 and "x-csrf-token" in refused.json()["error"]["message"]
    assert browser.post("/api/jobs", json={"verb": "train"}, headers={"x-csrf-token": "0" * 64}).status_code == 403
    assert (root / "first").exists()
    assert browser.delete("/api/runs/first", headers={"x-csrf-token": proof(browser)}).status_code == 200
    assert not (root / "first").exists()


def test_a_host_that_pretends_to_be_the_studio_is_refused(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8420", "127.0.0.1.evil.example", ""):
        answer = client.get("/api/runs", headers={"host": host})
        assert answer.status_code == 400, host
    assert client.get("/api/runs", headers={"host": "localhost:8420"}).status_code == 200


def test_every_page_carries_the_headers(browser: TestClient, stranger: TestClient) -> None:
    for answer in (browser.get("/"), browser.get("/api/runs"), stranger.get("/login"), browser.get("/nothing"), stranger.get("/api/runs")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    text = browser.get("/runs/first").text
    assert not re.search(r"<script(?![^>]*(src=|application/json))", text), "no page has a script of its own inside"
    assert not re.search(r"\son\w+=", text) and "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_paths_outside_the_roots_are_refused(client: TestClient, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.png").write_bytes(b"x")
    (root.parent / "link").symlink_to(secret)
    (root.parent / "a=link").symlink_to(secret)
    (root / "first" / "out.txt").symlink_to(secret / "a.png")
    for data in (
        str(secret),
        "../secret",
        str(root.parent / "link"),
        "link",
        "a=link",
        "a=link/a.png",
        f"{root}/../../secret",
        "/etc",
        "~root",
        "\0",
    ):
        refused = client.post("/api/verbs/describe", json={"verb": "train", "settings": {"data": data}})
        assert refused.status_code == 403 and "outside the folders" in refused.json()["error"]["message"], data
    assert client.post("/api/verbs/describe", json={"verb": "train", "settings": {"data": "digits"}}).status_code == 200
    for settings in ({"run": "first", "out": str(secret / "m.onnx")}, {"run": str(secret)}):
        assert client.post("/api/verbs/describe", json={"verb": "export", "settings": settings}).status_code == 403
    for path in ("out.txt", "../second/run.json", "..%2fsecond%2frun.json", "%2e%2e/second/run.json", "/etc/passwd", ".hidden"):
        assert client.get(f"/api/runs/first/files/{path}").status_code == 404, path
    for name in ("..%2f..%2fetc", "x%00", "first%2f..%2fsecond"):
        assert client.get(f"/api/runs/{name}").status_code in (404, 405), name
    assert client.get("/api/paths", params={"prefix": str(secret) + "/"}).json()["paths"] == []
    assert client.get("/api/paths", params={"prefix": f"{root}/fi"}).json()["paths"] == [f"{root}/first/"]


def test_lists_of_images_cannot_lead_out(client: TestClient, root: Path, tmp_path: Path) -> None:
    home = root.parent
    (tmp_path / "secret.png").write_bytes(b"x")
    up = "../../secret.png"
    outside = (f"{tmp_path}/secret.png,a", f"{up},a", f"{tmp_path}/secret.png a", f"a.png,a\n{up}\ta", f'"{up}";a')
    for number, lines in enumerate(outside):
        folder = home / f"list{number}"
        folder.mkdir()
        name = "train.txt" if " " in lines else "list.csv"
        (folder / name).write_text(lines + "\n")
        for data in (f"{folder}/{name}", *([] if name == "train.txt" else [str(folder)])):
            refused = client.get("/api/images/look", params={"source": data})
            assert refused.status_code == 403, lines
            assert "which is outside the folders the studio may use" in refused.json()["error"]["message"]
    (home / "list0" / "list.csv").write_text(f"{home}/list0/a.png,a\nb/../a.png,b\n")
    assert client.get("/api/images/look", params={"source": f"{home}/list0/list.csv"}).status_code == 200


def test_a_run_folder_that_is_a_link_out_is_no_run(client: TestClient, root: Path, tmp_path: Path, make_run: Making) -> None:
    make_run(tmp_path / "elsewhere", "real")
    (root / "linked").symlink_to(tmp_path / "elsewhere" / "real")
    assert client.get("/api/runs/linked").status_code == 404
    assert client.get("/runs/linked").status_code == 404


def test_paths_inside_other_settings_are_refused_too(client: TestClient, tmp_path: Path) -> None:
    sweep: dict[str, object] = {"verb": "train", "data": "digits", "over": ["epochs=1,2"]}
    assert client.post("/api/verbs/describe", json={"verb": "sweep", "settings": sweep}).status_code == 200
    outside = [
        {"fixed": [f"weights={tmp_path}/w.safetensors"]},
        {"over": [f"weights=torchvision/resnet18,{tmp_path}/w.pt"]},
        {"study": f"sqlite:///{tmp_path}/study.sqlite"},
        {"study": f"sqlite:////{tmp_path}/study.sqlite"},
        {"study": f"sqlite+pysqlite:///{tmp_path}/study.sqlite"},
        {"study": "sqlite:///../../study.sqlite"},
        {"study": f"sqlite:///file:{tmp_path}/study.sqlite?uri=true"},
        {"study": "mysql://host/studies"},
    ]
    for more in outside:
        assert client.post("/api/verbs/describe", json={"verb": "sweep", "settings": sweep | more}).status_code == 403, more
    pickle = client.post("/api/verbs/describe", json={"verb": "sweep", "settings": sweep | {"fixed": ["weights=w.pkl"]}})
    assert pickle.status_code == 400 and "is a pickle" in pickle.json()["error"]["message"]
    near = sweep | {"study": "sqlite:///study.sqlite"}
    assert client.post("/api/verbs/describe", json={"verb": "sweep", "settings": near}).status_code == 200
    far = sweep | {"study": "postgresql://user@host/studies"}
    assert client.post("/api/verbs/describe", json={"verb": "sweep", "settings": far}).status_code == 200


def test_pickles_are_refused(client: TestClient) -> None:
    for weights in ("w.pkl", "W.PICKLE", "a/b.joblib"):
        refused = client.post("/api/verbs/describe", json={"verb": "train", "settings": {"data": "digits", "weights": weights}})
        assert refused.status_code == 400 and "is a pickle" in refused.json()["error"]["message"]


def test_large_bodies_are_refused_before_they_are_read(client: TestClient) -> None:
    assert client.post("/api/jobs", content=b"{" + b" " * JSON_BYTES).status_code == 413

    def endless() -> object:
        for _ in range(64):
            yield b" " * (64 << 10)

    assert client.post("/api/jobs", content=endless(), headers={"content-type": "application/json"}).status_code == 413


def test_guessing_is_slowed_down(stranger: TestClient) -> None:
    answers = [stranger.post("/login", data={"word": f"guess {number}"}).status_code for number in range(14)]
    assert answers[:9] == [401] * 9 and answers[-1] == 429
    assert int(stranger.post("/login", data={"word": "again"}).headers["retry-after"]) >= 1


def test_rate_refills_and_stands_still_when_the_clock_goes_back() -> None:
    clock = [0.0]
    rate = Rate(2, 3, clock=lambda: clock[0])
    assert [rate.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait_s("b") == 0, "another client has a bucket of its own"
    clock[0] = 0.5
    assert rate.wait_s("a") == 0 and rate.wait_s("a") == 0.5
    clock[0] = -100
    assert rate.wait_s("a") == 0.5


def test_markup_in_names_is_escaped(client: TestClient, root: Path, make_run: Making) -> None:
    name = "<img src=x onerror=alert(1)>"
    record = make_run(root, name, model="<script>alert(2)</script>")
    record.event("decision", stage="</script><script>alert(3)</script>", choice="x", reason="</script>")
    client.put(f"/api/runs/{name}/notes", json={"title": "<b>bold</b>", "text": "</textarea><script>", "version": 0}).raise_for_status()
    for address in ("/", f"/runs/{name}", f"/new/train?clone={name}", "/jobs", f"/compare?a={name}&b=second", f"/?text={name}"):
        text = client.get(address).text
        assert "<img src=x" not in text and "<script>alert" not in text and "<b>bold" not in text and "</textarea><script" not in text, (
            address
        )
    assert "&lt;b&gt;bold&lt;/b&gt;" in client.get("/").text


def test_a_report_from_elsewhere_has_no_rights(client: TestClient, root: Path) -> None:
    (root / "first" / "report.html").write_text("<script>fetch('/api/runs')</script>")
    answer = client.get("/api/runs/first/report")
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert (
        "allow-same-origin" not in answer.headers["content-security-policy"]
        and "connect-src" not in answer.headers["content-security-policy"]
    )
    for file, kind in (("evil.svg", "attachment"), ("report.html", "attachment"), ("run.json", "inline")):
        (root / "first" / file).touch()
        assert client.get(f"/api/runs/first/files/{file}").headers["content-disposition"].startswith(kind)


def test_roots_follow_links_and_refuse_loops(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    roots = Roots([tmp_path / "in"])
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert roots.require(tmp_path / "in" / "new") == tmp_path / "in" / "new"
    for path in (tmp_path, tmp_path / "in" / "up", tmp_path / "in" / "up" / "x", tmp_path / "inside", "~nobody-of-this-name"):
        with pytest.raises(Outside, match=r"outside the folders the studio may use: .*in\. Start it with --allow FOLDER"):
            roots.require(path)
    roots.check({"model": "torchvision/resnet18", "n": 3, "deep": [{"weights": "timm/resnet18"}]})
    with pytest.raises(Outside):
        roots.check({"deep": [{"weights": "timm/../../../etc/passwd"}]})


def test_other_addresses_need_encryption_and_passwords_are_long(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"others can reach 0\.0\.0\.0, and passwords and images would travel unencrypted"):
        Settings(host="0.0.0.0")
    with pytest.raises(ValidationError, match="certificate and key belong together"):
        Settings(certificate=tmp_path / "c.pem")
    assert Settings(host="0.0.0.0", encryption=False).is_local is False and Settings(host="::1").is_local
    (tmp_path / "short").write_text("1234567\n")
    with pytest.raises(UsageError, match="has 7 characters; it needs at least 8"):
        open_access(tmp_path, tmp_path / "short")
    (tmp_path / "long").write_text("correct horse\n")
    entry = open_access(tmp_path, tmp_path / "long")
    assert entry.admits("correct horse") and not entry.admits("correct horse\n") and not entry.admits("")
    assert entry.admits(entry.token)


def test_the_secret_is_the_owners_alone_and_survives_a_restart(root: Path, made: FastAPI) -> None:
    secret = root / ".studio" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.parent.stat().st_mode & 0o777 == 0o700
    cookie = made.state.studio.entry.issue()
    again = studio.app(root)
    assert again.state.studio.entry.session(cookie, None) is not None
    assert os.fsencode(made.state.studio.entry.token) not in secret.read_bytes()


def test_a_password_opens_beside_the_token(root: Path) -> None:
    (root.parent / "password").write_text("correct horse battery\n")
    made = studio.app(root, Settings(password_file=root.parent / "password"))
    with TestClient(made, base_url=ADDRESS) as client:
        assert "Password or token" in client.get("/login").text
        assert client.post("/login", data={"word": "correct horse"}).status_code == 401
        assert client.post("/login", data={"word": "correct horse battery"}).status_code == 200
        assert client.get("/api/runs").status_code == 200


def test_another_studio_does_not_know_the_visitors_of_this_one(made: FastAPI, tmp_path: Path) -> None:
    other = studio.app(tmp_path / "other")
    assert other.state.studio.entry.session(made.state.studio.entry.issue(), None) is None
    with TestClient(other, base_url=ADDRESS, headers={"authorization": f"Bearer {made.state.studio.entry.token}"}) as client:
        assert client.get("/api/runs").status_code == 401

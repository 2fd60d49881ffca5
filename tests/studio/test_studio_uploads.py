"""Images that are sent: whole, damaged, wrong, too many, and those that would do harm."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from convsmith.errors import DataError, UsageError
from convsmith.studio import unpacking
from convsmith.studio.unpacking import Uploads, relative


def png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((12, 12), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


FLOWERS = {f"flowers/{name}/{number}.png": png(50 * number + place) for place, name in enumerate(("daisy", "rose")) for number in range(5)}


def test_a_zip_becomes_a_source_to_train_on(client: TestClient, root: Path) -> None:
    upload = client.post("/api/uploads").json()["upload"]
    more = {"flowers/.DS_Store": b"x", "__MACOSX/flowers/._a": b"x", "flowers/daisy/broken.png": png()[:40]}
    assert client.put(f"/api/uploads/{upload}/archive", content=packed(FLOWERS | more)).json() == {"kept": 11}
    source = client.post(f"/api/uploads/{upload}/finish", json={"name": "My Flowers!"}).json()["source"]
    assert Path(source) == root / "datasets" / "my-flowers" and sorted(path.name for path in Path(source).iterdir()) == ["daisy", "rose"]
    assert client.post(f"/api/uploads/{upload}/finish", json={"name": "x"}).status_code == 404
    assert source in [item["source"] for item in client.get("/api/images/sources").json()["sources"]]
    assert not list((root / "datasets").glob(".arriving-*"))


def test_a_folder_is_sent_file_by_file(client: TestClient) -> None:
    upload = client.post("/api/uploads").json()["upload"]
    names = [*FLOWERS, "flowers/Thumbs.db"]
    sent = [("sent", ("file", FLOWERS.get(name, b"x"))) for name in names]
    answer = client.post(f"/api/uploads/{upload}/files", files=sent, data={"paths": names})
    assert answer.json() == {"kept": 10, "passed_over": 1}
    source = Path(client.post(f"/api/uploads/{upload}/finish", json={"name": "flowers"}).json()["source"])
    assert {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*.png")} == {
        name.removeprefix("flowers/"): content for name, content in FLOWERS.items()
    }
    again = client.post("/api/uploads").json()["upload"]
    assert client.post(f"/api/uploads/{again}/files", files=sent[:2], data={"paths": names[:1]}).status_code == 400
    assert "no file arrived" in client.post(f"/api/uploads/{again}/finish", json={"name": "a"}).json()["error"]["message"]
    assert client.delete(f"/api/uploads/{again}").status_code == 200 and client.delete(f"/api/uploads/{again}").status_code == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no whole zip archive"),
        (b"not a zip at all" * 50, "no whole zip archive"),
        (packed(FLOWERS)[:-60], "no whole zip archive"),
        (packed({}), "holds no file that could be an image"),
        (packed({".hidden/a.png": png()}), "holds no file that could be an image"),
    ],
    ids=["empty", "wrong", "truncated", "nothing in it", "hidden files"],
)
def test_an_archive_that_is_none_is_refused(client: TestClient, root: Path, content: bytes, said: str) -> None:
    upload = client.post("/api/uploads").json()["upload"]
    answer = client.put(f"/api/uploads/{upload}/archive", content=content)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]
    assert not list((root / "datasets").glob(".arriving-*.zip")), "what was sent is not left behind"


HARM = [
    "../evil.png",
    "/etc/evil.png",
    "a/../../evil.png",
    "C:\\evil.png",
    "..\\evil.png",
    "\\\\host\\evil.png",
    "a/" * 13 + "b.png",
    "x" * 300,
]


@pytest.mark.parametrize("name", HARM)
def test_a_name_that_leads_out_is_refused(client: TestClient, root: Path, tmp_path: Path, name: str) -> None:
    upload = client.post("/api/uploads").json()["upload"]
    before = sorted(tmp_path.rglob("*"))
    answer = client.put(f"/api/uploads/{upload}/archive", content=packed({name: png()}))
    assert answer.status_code == 400 and "is no name for a file of an upload" in answer.json()["error"]["message"]
    sent = client.post(f"/api/uploads/{upload}/files", files=[("sent", ("file", png()))], data={"paths": [name]})
    assert sent.status_code == 400
    assert sorted(tmp_path.rglob("*")) == before and not Path("/etc/evil.png").exists()


@given(st.text(max_size=60))
def test_no_name_ever_leads_out(name: str) -> None:
    try:
        parts = relative(name)
    except UsageError:
        return
    if parts is not None:
        path = Path("/base").joinpath(*parts)
        assert path.is_relative_to("/base") and ".." not in path.parts and all(part not in ("", ".") for part in parts)


def test_links_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "links.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/link/evil.png", png())
    uploads = Uploads(tmp_path, 1 << 20)
    id = uploads.begin()
    assert uploads.unpack(id, path) == 1
    assert not any(found.is_symlink() for found in tmp_path.rglob("*"))


def test_a_bomb_goes_off_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(packed({"a/zeros.png": b"\0" * (64 << 20)}))
    assert bomb.stat().st_size < 100_000
    uploads = Uploads(tmp_path, 1 << 30)
    with pytest.raises(UsageError, match="200 times the size of an archive"):
        uploads.unpack(uploads.begin(), bomb)
    small = Uploads(tmp_path, 100_000)
    (tmp_path / "large.zip").write_bytes(packed({"a/noise.png": np.random.default_rng(0).bytes(200_000)}))
    id = small.begin()
    with pytest.raises(UsageError, match="more than may be sent: 0 MB in all"):
        small.unpack(id, tmp_path / "large.zip")
    small = Uploads(tmp_path, 100_000)
    id = small.begin()
    small.add(id, "a/1.png", io.BytesIO(b"x" * 60_000))
    with pytest.raises(UsageError, match="more than may be sent"):
        small.add(id, "a/2.png", io.BytesIO(b"x" * 60_000))
    monkeypatch.setattr(unpacking, "MOST_FILES", 9)
    (tmp_path / "many.zip").write_bytes(packed(FLOWERS))
    with pytest.raises(UsageError, match="the archive holds 10 files; at most 9 are taken"):
        uploads.unpack(uploads.begin(), tmp_path / "many.zip")


def test_a_file_that_is_also_a_folder_and_pickles_are_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 1 << 20)
    id = uploads.begin()
    uploads.add(id, "a/b/1.png", io.BytesIO(png()))
    with pytest.raises(UsageError, match="'b' is the name of a file and of a folder"):
        uploads.add(id, "a/b", io.BytesIO(png()))
    with pytest.raises(UsageError, match="a pickle can run code"):
        uploads.add(id, "a/weights.PKL", io.BytesIO(b"x"))


def test_a_password_protected_archive_is_told(tmp_path: Path) -> None:
    content = bytearray(packed(FLOWERS, zipfile.ZIP_STORED))
    for start in _headers(bytes(content)):
        content[start] |= 1  # the bit that says a member is encrypted (APPNOTE 4.4.4)
    path = tmp_path / "locked.zip"
    path.write_bytes(content)
    uploads = Uploads(tmp_path, 1 << 20)
    with pytest.raises(DataError, match=r"this is no whole zip archive .*password"):
        uploads.unpack(uploads.begin(), path)


def _headers(content: bytes) -> Iterator[int]:
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            yield place + offset
            place = content.find(mark, place + 1)


def test_what_is_not_finished_is_forgotten_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path, 1 << 20)
    old = uploads.begin()
    import time

    now = time.time()
    monkeypatch.setattr("convsmith.studio.unpacking.time.time", lambda: now + unpacking.STALE_S + 10)
    new = uploads.begin()
    assert not uploads._place(old).exists() and uploads.place(new).is_dir()


def test_a_full_disk_is_told_before_anything_is_taken(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("convsmith.studio.api.uploads.shutil.disk_usage", lambda path: usage(100, 99, 1))
    answer = client.post("/api/uploads")
    assert answer.status_code == 507 and "MB of the disk of" in answer.json()["error"]["message"]

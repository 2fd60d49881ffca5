from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from convsmith import data
from convsmith.data import public
from convsmith.errors import DataError, ResourceError, UsageError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a dictionary; ``ranges`` and ``break_at`` change how."""

    files: dict[str, bytes]
    ranges = True
    break_at = 0
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = int(self.headers["Range"][6:-1]) if self.ranges and "Range" in self.headers else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.break_at or None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"files": {"/file": CONTENT}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", handler
        serving.shutdown()
        thread.join()


def test_a_file_arrives_whole_with_progress_and_only_once(server, tmp_path: Path) -> None:
    address, handler = server
    steps: list[tuple[int, int]] = []
    path = data.download(f"{address}/file", SHA256.upper(), tmp_path / "new" / "file", lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    data.download(f"{address}/file", SHA256, path)
    assert handler.asked == ["/file"]
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path: Path) -> None:
    address, _ = server
    with pytest.raises(DataError, match=f"has the SHA-256 {SHA256}, expected is {'0' * 64}; nothing was kept"):
        data.download(f"{address}/file", "0" * 64, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on_or_starts_again(server, tmp_path: Path, ranges) -> None:
    address, handler = server
    handler.break_at = 400_000
    with pytest.raises(ResourceError, match="broke off after 400,000 of 1,000,000 bytes; the next try goes on there"):
        data.download(f"{address}/file", SHA256, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    handler.break_at, handler.ranges = 0, ranges
    assert data.download(f"{address}/file", SHA256, tmp_path / "file").read_bytes() == CONTENT
    assert handler.asked == ["/file", "/file bytes=400000-"]
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def test_a_complete_part_is_taken_and_a_spoilt_one_is_dropped(server, tmp_path: Path) -> None:
    address, _ = server
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert data.download(f"{address}/file", SHA256, tmp_path / "file").read_bytes() == CONTENT
    (tmp_path / "file").unlink()
    (tmp_path / "file.part").write_bytes(b"x" * 10)
    with pytest.raises(DataError, match="nothing was kept"):
        data.download(f"{address}/file", SHA256, tmp_path / "file")
    assert data.download(f"{address}/file", SHA256, tmp_path / "file").read_bytes() == CONTENT


def test_a_spoilt_file_is_replaced(server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    assert data.download(f"{server[0]}/file", SHA256, tmp_path / "file").read_bytes() == CONTENT


def test_addresses_that_fail(server, tmp_path: Path) -> None:
    address, _ = server
    with pytest.raises(ResourceError, match="/none cannot be fetched: the server answers 404 Not Found"):
        data.download(f"{address}/none", SHA256, tmp_path / "file")
    with pytest.raises(ResourceError, match=r"cannot be fetched into .*Connection refused.*the next try goes on"):
        data.download("http://127.0.0.1:9/file", SHA256, tmp_path / "file")
    with pytest.raises(UsageError, match="'file:///etc/passwd' cannot be fetched; allowed are http:// and https:// addresses"):
        data.download("file:///etc/passwd", SHA256, tmp_path / "file")
    (tmp_path / "blocked").write_text("a file, not a folder")
    with pytest.raises(ResourceError, match="cannot be fetched into"):
        data.download(f"{address}/file", SHA256, tmp_path / "blocked" / "file")


def test_an_unknown_public_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no public data set 'cifar-10'; known are mnist, .*Did you mean 'cifar10'\?"):
        data.load_public("cifar-10", tmp_path)


def idx(array: np.ndarray) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def publish(monkeypatch, server, name: str, files: dict[str, bytes], opened: str = "") -> None:
    address, handler = server
    handler.files = {f"/{file}": raw for file, raw in files.items()}
    sums = tuple((file, hashlib.sha256(raw).hexdigest()) for file, raw in files.items())
    monkeypatch.setitem(public.PUBLIC, name, public.PublicSet(address + "/", sums, opened))


def test_fashion_mnist_is_fetched_opened_and_found_again(server, tmp_path: Path, monkeypatch) -> None:
    rng = np.random.default_rng(1)
    files = {}
    for part, count in (("train", 60), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (count, 28, 28)))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.arange(count) % 10)
    publish(monkeypatch, server, "fashion-mnist", files)
    dataset = data.load_public("fashion-mnist", tmp_path, val=0.5)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 30, "val": 30, "test": 20}
    assert dataset.classes[5] == "Sandal"
    data.load_public("fashion-mnist", tmp_path)
    assert len(server[1].asked) == 4


def test_cifar10_is_opened_inside_its_archive(server, tmp_path: Path, monkeypatch) -> None:
    rng = np.random.default_rng(2)
    with io.BytesIO() as raw:
        with tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, count in (("data_batch_1", 60), ("test_batch", 20)):
                pixels, labels = rng.integers(0, 256, (count, 3072), np.uint8), (np.arange(count) % 10).tolist()
                batch = pickle.dumps({b"data": pixels, b"labels": labels}, 2)
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(batch)
                archive.addfile(member, io.BytesIO(batch))
        files = {"cifar-10-python.tar.gz": raw.getvalue()}
    publish(monkeypatch, server, "cifar10", files, "cifar-10-python.tar.gz")
    dataset = data.load_public("cifar10", tmp_path)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 50, "val": 10, "test": 20}
    assert dataset.classes[0] == "airplane"


def test_the_records_are_whole() -> None:
    for name, record in data.PUBLIC.items():
        assert record.address.startswith("http") and record.address.endswith("/"), name
        assert all(len(sha256) == 64 and int(sha256, 16) for _, sha256 in record.files)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_checksums_are_those_of_the_original_files(real_data: Path, name) -> None:
    for file, sha256 in data.PUBLIC[name].files:
        assert hashlib.sha256((real_data / "data" / name / file).read_bytes()).hexdigest() == sha256

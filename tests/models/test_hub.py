"""Fetching published weights, from a server on this machine, and legacy checkpoints."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.models import hub, weights


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    asked: list[str] = []
    root = tmp_path / "served"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(root))

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", root, asked
        server.shutdown()
        thread.join()


def test_published_weights_are_fetched_once_and_checked(
    served: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root, asked = served
    content = b"weights" * 1000
    digits = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(hub.TORCHVISION, "resnet18", f"resnet18-{digits}.pth")
    (root / f"resnet18-{digits}.pth").write_bytes(content)
    monkeypatch.setenv("CONVSMITH_CACHE", str(tmp_path / "cache"))
    path = hub.fetch("torchvision/resnet18", address=address)
    assert path == tmp_path / "cache/torchvision" / f"resnet18-{digits}.pth" and path.read_bytes() == content
    assert hub.fetch("resnet18", address=address) == path
    assert asked == [f"/resnet18-{digits}.pth"]
    path.write_bytes(b"changed")
    assert hub.fetch("resnet18", address=address).read_bytes() == content
    (root / "resnet34-b627a593.pth").write_bytes(b"not what was published")
    with pytest.raises(DataError, match=r"has the SHA-256 .*, expected is b627a593; nothing was kept"):
        hub.fetch("resnet34", address=address)
    with pytest.raises(ResourceError, match="the server answers 404"):
        hub.fetch("resnet50", address=address)


def test_names_without_published_weights() -> None:
    with pytest.raises(UsageError, match=r"torchvision publishes no weights for 'resnet19'; there are alexnet.* mean 'resnet18'\?"):
        hub.fetch("torchvision/resnet19")
    assert all(len(file.rsplit("-", 1)[1]) == 12 for file in hub.TORCHVISION.values())


@pytest.mark.extra
def test_the_table_is_torchvisions_own() -> None:
    guard = pytest.importorskip("convsmith.models.torchvision_guard")
    guard.guard()
    models = pytest.importorskip("torchvision.models")
    for name, file in hub.TORCHVISION.items():
        assert file in {weight.url.rsplit("/", 1)[1] for weight in models.get_model_weights(name)}, name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_legacy_checkpoints_with_harmless_company_are_read(zipped: bool, tmp_path: Path) -> None:
    company = {
        "args": argparse.Namespace(lr=0.1, schedule=[30, 60]),
        "best": np.float64(91.25),
        "curve": np.arange(3.0),
        "meters": defaultdict(list),
        "seen": Counter("aab"),
    }
    torch.save({"state_dict": {"module.a": torch.ones(2)}, **company}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert weights.read(tmp_path / "a.pth")["a"].tolist() == [1, 1]


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_payload_beside_harmless_company_does_not_run(zipped: bool, tmp_path: Path) -> None:
    content = {"state_dict": {"a": torch.ones(2)}, "args": argparse.Namespace(x=1), "x": Payload(tmp_path / "trace")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match="cannot read weights"):
        weights.read(tmp_path / "a.pth")
    assert not (tmp_path / "trace").exists()

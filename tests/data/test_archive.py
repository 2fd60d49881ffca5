from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convsmith import data
from convsmith.data.archive import read_archive
from convsmith.errors import DataError, ResourceError


def pack(root: Path, target: Path, prefix: str = "") -> Path:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in files:
                archive.write(path, prefix + str(path.relative_to(root)))
    else:
        with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as archive:
            for path in files:
                archive.add(path, prefix + str(path.relative_to(root)))
    return target


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize("prefix", ["", "./", "wrapped/"])
def test_an_archive_is_its_folder(class_folder, tmp_path: Path, name, prefix) -> None:
    root = class_folder({"cat": 6, "dog": 6})
    folder, archive = data.open(root), data.open(pack(root, tmp_path / name, prefix))
    assert archive.classes == folder.classes and archive.name == name
    for part in ("train", "val", "test"):
        ours, theirs = archive.splits[part], folder.splits[part]
        assert [ours.name(index) for index in range(len(ours))] == [theirs.name(index) for index in range(len(theirs))]
    preprocess = data.Preprocess(6, 6)
    np.testing.assert_array_equal(data.pixels(archive.train, preprocess), data.pixels(folder.train, preprocess))


def test_an_archive_decodes_in_processes(class_folder, tmp_path: Path) -> None:
    root = class_folder({"cat": 6, "dog": 6})
    archive = data.open(pack(root, tmp_path / "a.tar"), workers=1)
    preprocess = data.Preprocess(6, 6)
    np.testing.assert_array_equal(data.pixels(archive.train, preprocess, workers=1), data.pixels(data.open(root).train, preprocess))


def test_parts_inside_an_archive(class_folder, tmp_path: Path) -> None:
    class_folder({"cat": 5, "dog": 5}, under="train")
    root = class_folder({"cat": 2, "dog": 2}, under="test", seed=50)
    dataset = data.open(pack(root, tmp_path / "a.tgz"))
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 8, "val": 2, "test": 4}


def test_links_and_paths_that_climb_touch_nothing(class_folder, tmp_path: Path) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    archive = pack(root, tmp_path / "a.tar")
    with tarfile.open(archive, "a") as file:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        climbing = tarfile.TarInfo("../../dog/evil.png")
        climbing.size = 3
        file.addfile(climbing, io.BytesIO(b"abc"))
    before = sorted(tmp_path.rglob("*"))
    dataset = data.open(archive)
    assert ("cat/link.png", "not a regular file (a link or device inside an archive)") in [(p.name, p.reason) for p in dataset.problems]
    assert sum(map(len, dataset.splits.values())) == 10
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_a_truncated_archive(class_folder, tmp_path: Path, name) -> None:
    archive = pack(class_folder({"cat": 30, "dog": 30}), tmp_path / name)
    raw = archive.read_bytes()
    archive.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"is a damaged or protected archive|is not a source of images"):
        data.open(archive)


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_an_archive_that_unpacks_to_too_much(class_folder, tmp_path: Path, name) -> None:
    archive = pack(class_folder({"cat": 5, "dog": 5}), tmp_path / name)
    with pytest.raises(ResourceError, match=r"holds more than .* GiB; unpack it and give the folder"):
        read_archive(archive, limit_bytes=1000)


@pytest.mark.real_data
@pytest.mark.slow
def test_cifar10_as_jpeg(real_data: Path) -> None:
    dataset = data.open(real_data / "data" / "cifar10" / "cifar10-jpeg-q75.tar.gz")
    assert {part: np.unique(count).tolist() for part, count in dataset.counts().items()} == {"train": [4500], "val": [500], "test": [1000]}

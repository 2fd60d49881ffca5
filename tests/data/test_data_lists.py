"""Lists of path and label as DIGITS writes them: parts by their names, numbers by labels.txt, and every way they can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convsmith import data
from convsmith.errors import DataError


@pytest.fixture
def lists(class_folder) -> Path:
    """A folder of images with train.txt, val.txt and labels.txt, the labels as numbers; one path has a blank."""
    root = class_folder({"cat": 6, "dog": 6})
    shutil.move(root / "cat" / "000.png", root / "cat" / "my cat.png")
    paths = sorted(root.rglob("*.png"))
    rows = [f"{path.relative_to(root)}{chr(9) if number % 2 else ' '}{int(path.parent.name == 'dog')}" for number, path in enumerate(paths)]
    chosen = [row for number, row in enumerate(rows) if number % 3]
    (root / "train.txt").write_text("\n".join(chosen) + "\n\n")
    (root / "val.txt").write_text("\n".join(row for row in rows if row not in chosen))
    (root / "labels.txt").write_text("cat\ndog\n")
    return root


def test_parts_and_names_come_from_the_files_beside(lists: Path) -> None:
    dataset = data.open(lists / "train.txt", test=0)
    assert dataset.classes == ("cat", "dog") and {name: len(split) for name, split in dataset.splits.items()} == {"train": 8, "val": 4}
    for split in dataset.splits.values():
        for index in range(len(split)):
            name, label = split.name(index), dataset.classes[int(split.labels[index])]
            assert name.startswith(label + "/")
    assert any(" " in split.name(index) for split in dataset.splits.values() for index in range(len(split)))


def test_a_list_of_another_name_has_no_parts_and_may_name_its_classes(lists: Path) -> None:
    text = (lists / "train.txt").read_text().replace("1\n", "dog\n").replace("0\n", "cat\n")
    (lists / "mine.txt").write_text(text + "cat/missing.png cat\nnothing\n")
    dataset = data.open(lists / "mine.txt", val=0, test=0)
    assert dataset.classes == ("cat", "dog") and len(dataset.train) == 8
    assert {(problem.name, problem.kind) for problem in dataset.problems} == {("cat/missing.png", "missing"), ("mine.txt:11", "row")}


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("train.txt", b"", "has no line of a path and a label"),
        ("train.txt", b"lonely\n", "has no line of a path and a label"),
        ("train.txt", b"\xff\xfe 1\n", "is not a text in UTF-8"),
        ("train.txt", b"cat/001.png 7\n", "names 2 classes, and there is a label 7; it needs a line for each, from 0 on"),
    ],
)
def test_lists_that_cannot_be(lists: Path, name: str, raw: bytes, message: str) -> None:
    (lists / name).write_bytes(raw)
    (lists / "val.txt").unlink()
    with pytest.raises(DataError, match=message):
        data.open(lists / name)

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convsmith import data
from convsmith.errors import DataError


def rows(root: Path) -> list[tuple[str, str]]:
    return [(str(path.relative_to(root)), path.parent.name) for path in sorted(root.rglob("*.png"))]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "path{0}label", "Label{0}File", "id{0}photo"])
def test_with_and_without_a_header(class_folder, delimiter, header) -> None:
    root = class_folder({"cat": 6, "dog": 6})
    lines = [header.format(delimiter)] if header else []
    if header.startswith("id"):
        lines = ["what" + delimiter + "kind"]
    for path, label in rows(root):
        lines.append(delimiter.join((label, path) if header.startswith("Label") else (path, label)))
    dataset = data.open(write(root / "list.csv", lines))
    assert dataset.classes == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 12
    assert dataset.problems == ()


@pytest.mark.parametrize("header", [True, False])
def test_a_column_of_parts_is_kept(class_folder, header) -> None:
    root = class_folder({"cat": 6, "dog": 6})
    parts = ["train", "train", "train", "valid", "test", "TEST"] * 2
    lines = ["path,label,split"] if header else []
    lines += [f"{path},{label},{part}" for (path, label), part in zip(rows(root), parts, strict=True)]
    dataset = data.open(write(root / "list.csv", lines))
    assert {part: count.tolist() for part, count in dataset.counts().items()} == {"train": [3, 3], "val": [1, 1], "test": [2, 2]}


def test_an_unknown_part_is_refused_with_its_line(class_folder) -> None:
    table = write(class_folder({"cat": 6, "dog": 6}) / "list.csv", ["path,label,split", "cat/000.png,cat,train", "dog/000.png,dog,holdout"])
    with pytest.raises(DataError, match=r"list\.csv, line 3: the part is 'holdout'; allowed are train, training, val"):
        data.open(table)


def test_numbers_quoted_newlines_and_a_byte_order_mark(class_folder, tmp_path: Path) -> None:
    root = class_folder({"10": 4, "9": 4})
    (root / "9" / "000.png").rename(root / "9" / "a,b\nc.png")
    quoted = [f'"{path.relative_to(root)!s}",{path.parent.name}' for path in sorted(root.rglob("*.png"))]
    (root / "list.csv").write_text("path,label\n" + "\n".join(quoted), "utf-8-sig")
    dataset = data.open(root / "list.csv")
    assert dataset.classes == ("9", "10")
    assert sum(map(len, dataset.splits.values())) == 8
    # absolute paths, from a table elsewhere
    table = write(tmp_path / "elsewhere.csv", [f'"{path}",{path.parent.name}' for path in sorted(root.rglob("*.png"))])
    assert len(data.open(table).train) == len(dataset.train)


def test_a_folder_with_one_table_and_no_class_folders(class_folder, tmp_path: Path) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,class_index"]
    for path, label in rows(root):
        (root / path).rename(flat / path.replace("/", "_"))
        lines.append(f"{path.replace('/', '_')},{label}")
    write(flat / "labels.csv", lines)
    dataset = data.open(flat)
    assert (dataset.name, dataset.classes, len(dataset.train)) == ("flat", ("cat", "dog"), 6)


def test_missing_files_bad_lines_and_repeats_are_told(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    os.mkfifo(root / "pipe")
    lines = ["path,label", *(",".join(row) for row in rows(root))]
    lines += ["cat/none.png,cat", "cat/000.png,cat", "cat/001.png", ",dog", "cat,cat", "pipe,cat"]
    dataset = data.open(write(root / "list.csv", lines))
    found = {(problem.name, problem.kind, problem.reason) for problem in dataset.problems}
    assert found == {
        ("cat/none.png", "missing", "there is no such file"),
        ("list.csv:14", "row", "the line has no label"),
        ("list.csv:15", "row", "the line has no path or label"),
        ("cat", "unreadable", "it is a folder"),
        ("pipe", "unreadable", "not a regular file"),
    }
    assert dataset.notes == ("1 repeated line of list.csv ignored",)
    assert sum(map(len, dataset.splits.values())) == 10


def test_one_file_under_two_labels_is_a_conflict(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    dataset = data.open(write(root / "list.csv", [*(",".join(row) for row in rows(root)), "cat/000.png,dog"]))
    assert [(problem.name, problem.kind) for problem in dataset.problems] == [("cat/000.png", "conflict")] * 2
    assert sum(map(len, dataset.splits.values())) == 9


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty; expected are lines of path,label"),
        (b"path,label\n", "has no line of path,label"),
        (b"only\none\n", "has one column; expected are at least path,label"),
        (b"\xff\xfe\0,a\n", "is not a CSV in UTF-8"),
        (b'"' + b"x" * 200_000 + b'",a\n', "is not a CSV in UTF-8 (field larger than field limit"),
        (b"a.png,cat\nb.png,dog\n", "has no usable image: 2 missing. The first: 'a.png': there is no such file"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, raw, message) -> None:
    (tmp_path / "list.csv").write_bytes(raw)
    with pytest.raises(DataError) as caught:
        data.open(tmp_path / "list.csv")
    assert message in str(caught.value)


@pytest.mark.real_data
def test_imagenet_samples_of_one_image_a_class(real_data: Path) -> None:
    folder = real_data / "data" / "imagenet-samples"
    with pytest.raises(DataError, match="every class needs at least 3 different images"):
        data.open(folder)
    dataset = data.open(folder, val=0, test=0)
    assert len(dataset.train) == len(dataset.classes) == 167
    assert dataset.classes[:3] == ("0", "6", "12")

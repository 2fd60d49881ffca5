from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.folder import in_order
from convsmith.errors import DataError


def names(split: data.Split) -> set[str]:
    return {split.name(index) for index in range(len(split))}


def test_class_folders_become_classes_and_three_parts(class_folder) -> None:
    root = class_folder({"cat": 10, "dog": 20})
    dataset = data.open(root)
    assert (dataset.name, dataset.source, dataset.classes, dataset.channels) == ("photos", str(root), ("cat", "dog"), 3)
    assert {part: count.tolist() for part, count in dataset.counts().items()} == {"train": [6, 12], "val": [2, 4], "test": [2, 4]}
    assert dataset.problems == () and dataset.notes == ()
    split = dataset.val
    label = dataset.classes[split.labels[0]]
    assert split.name(0).startswith(label + "/")
    assert split.size(0) == (12, 12) and split.image(0).shape == (12, 12, 3)
    np.testing.assert_array_equal(split.image(0), np.asarray(Image.open(root / split.name(0))))


@pytest.mark.parametrize("title", ["val", "valid", "Validation"])
def test_given_parts_are_kept(class_folder, title) -> None:
    class_folder({"a": 3, "b": 3}, under="train")
    class_folder({"a": 2, "b": 2}, under=title, seed=50)
    root = class_folder({"a": 1, "b": 4}, under="test", seed=90)
    dataset = data.open(root)
    assert {part: count.tolist() for part, count in dataset.counts().items()} == {"train": [3, 3], "val": [2, 2], "test": [1, 4]}
    assert names(dataset.val) == {f"{title}/{label}/00{number}.png" for label in "ab" for number in range(2)}
    assert dataset.notes == ()


def test_val_is_carved_out_of_train_when_only_test_is_given(class_folder) -> None:
    class_folder({"a": 10, "b": 10}, under="train")
    dataset = data.open(class_folder({"a": 2, "b": 2}, under="test", seed=50), val=0.3)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 14, "val": 6, "test": 4}
    assert all(name.startswith("train/") for name in names(dataset.val))
    assert dataset.notes == ("no val part is given: 30% of train became val",)


def test_val_stands_in_for_a_missing_test(class_folder) -> None:
    class_folder({"a": 4, "b": 4}, under="train")
    dataset = data.open(class_folder({"a": 2, "b": 2}, under="val", seed=50))
    assert set(dataset.splits) == {"train", "val"}
    assert dataset.test is dataset.val
    assert dataset.notes == ("no test part is given: the figures called test are those of val, which also chose the best epoch",)


def test_a_lone_train_folder_is_split(class_folder) -> None:
    dataset = data.open(class_folder({"a": 10, "b": 10}, under="train"), test=0.1)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 14, "val": 4, "test": 2}
    assert dataset.notes == ("only a train part is given: 20% of it became val and 10% test",)


def test_a_test_part_alone_is_refused(class_folder) -> None:
    class_folder({"a": 2, "b": 2}, under="val")
    root = class_folder({"a": 2, "b": 2}, under="test", seed=50)
    with pytest.raises(DataError, match="has val and test but no train part; add one"):
        data.open(root)


def test_train_as_the_name_of_a_class_is_a_class(class_folder) -> None:
    dataset = data.open(class_folder({"train": 5, "plane": 5}))
    assert dataset.classes == ("plane", "train")


def test_images_deeper_inside_a_class_belong_to_it(class_folder) -> None:
    class_folder({"2019": 3, "2020": 3}, under="cat")
    dataset = data.open(class_folder({"dog": 6}, seed=5000))
    assert dataset.classes == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 12


def test_names_with_spaces_unicode_and_newlines(class_folder, picture) -> None:
    root = class_folder({"zwei Wörter": 4, "猫\n犬": 4})
    strange = root / "zwei Wörter" / 'a b\nc\'s "d" é.png'
    Image.fromarray(picture(77)).save(strange)
    (root / "zwei Wörter" / os.fsdecode(b"\xff\xfe.png")).write_bytes(strange.read_bytes()[:40])
    dataset = data.open(root)
    assert set(dataset.classes) == {"zwei Wörter", "猫\n犬"}
    assert sum(map(len, dataset.splits.values())) == 9
    assert 'zwei Wörter/a b\nc\'s "d" é.png' in set().union(*(names(split) for split in dataset.splits.values()))
    assert [problem.left_out for problem in dataset.problems] == [True]
    assert len(data.fingerprint(dataset)) == 64
    x = data.pixels(dataset.train, data.Preprocess(8, 8), workers=1)
    assert x.shape == (len(dataset.train), 8, 8, 3)


def test_numbers_are_ordered_as_numbers() -> None:
    assert in_order(["10", "9", "1", "9"]) == ("1", "9", "10")
    assert in_order(["10", "9", "x"]) == ("10", "9", "x")


def test_stray_hidden_and_foreign_files_are_told_and_left_alone(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    (root / "README.md").write_text("about")
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    (root / "cat" / "notes.txt").write_text("a note")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    dataset = data.open(root)
    assert dataset.notes == ("1 file lies beside the class folders, not in one; ignored", "2 hidden files or folders ignored")
    [problem] = dataset.problems
    assert (problem.name, problem.kind, problem.reason) == ("cat/notes.txt", "unreadable", "it is text, not an image")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_folders_beside_the_parts_are_told(class_folder) -> None:
    class_folder({"a": 5, "b": 5}, under="train")
    class_folder({"a": 2, "b": 2}, under="test", seed=50)
    dataset = data.open(class_folder({"x": 1}, under="extra", seed=90))
    assert dataset.classes == ("a", "b")
    assert "folders that are no part ignored: extra" in dataset.notes


def test_a_symlink_loop_is_not_entered(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    (root / "cat" / "again").symlink_to(root, target_is_directory=True)
    (root / "dog" / "self").symlink_to("self")
    dataset = data.open(root)
    found = {(problem.name, problem.kind) for problem in dataset.problems}
    assert found == {("cat/again", "loop"), ("dog/self", "unreadable")}
    assert sum(map(len, dataset.splits.values())) == 10


def test_folders_nested_very_deep(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    deep = root / "cat"
    for _ in range(600):
        deep = deep / "d"
        deep.mkdir()
    (root / "cat" / "000.png").rename(deep / "deep.png")
    assert sum(map(len, data.open(root).splits.values())) == 10


def test_links_to_files_and_folders_elsewhere_are_followed(class_folder, tmp_path: Path, picture) -> None:
    root = class_folder({"cat": 5})
    outside = tmp_path / "outside"
    outside.mkdir()
    for seed in range(4):
        Image.fromarray(picture(900 + seed)).save(outside / f"{seed}.png")
    (root / "dog").symlink_to(outside, target_is_directory=True)
    (root / "cat" / "broken.png").symlink_to(root / "nothing")
    dataset = data.open(root)
    assert dataset.classes == ("cat", "dog")
    assert [(problem.name, problem.reason) for problem in dataset.problems] == [("cat/broken.png", "a symbolic link to nothing")]


def test_a_named_pipe_is_not_opened(class_folder) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    os.mkfifo(root / "cat" / "pipe.png")
    [problem] = data.open(root).problems
    assert (problem.name, problem.reason) == ("cat/pipe.png", "not a regular file (a pipe, socket or device)")


def test_folders_that_cannot_be_read(class_folder, monkeypatch) -> None:
    root = class_folder({"cat": 5, "dog": 5, "owl": 5})
    real = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith(("owl", "locked")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    dataset = data.open(root)
    assert dataset.classes == ("cat", "dog")
    assert [(problem.name, problem.reason) for problem in dataset.problems] == [("owl", "the folder cannot be read (Permission denied)")]
    (root / "locked").mkdir()
    with pytest.raises(DataError, match=r"the folder '.*locked' cannot be read \(Permission denied\); check its permissions"):
        data.open(root / "locked")


def test_a_file_that_cannot_be_read(class_folder, monkeypatch) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    real = Path.open

    def refuse(self: Path, *arguments: object, **options: object) -> object:
        if self.name == "002.png":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    problems = data.open(root).problems
    assert [problem.name for problem in problems] == ["cat/002.png", "dog/002.png"]
    assert {problem.reason for problem in problems} == {"the file cannot be opened (Permission denied)"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "is empty; put the images of each class in a folder named after it"),
        (lambda root: (root / "a.png").write_bytes(b"x"), "has 1 files but no class folders"),
        (lambda root: (root / "cat").mkdir(), "has no files in its class folders; add images"),
    ],
)
def test_empty_folders(tmp_path: Path, make, message) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        data.open(tmp_path)
    assert message in str(caught.value)


def test_one_class(class_folder) -> None:
    with pytest.raises(DataError, match=r"has one class \('cat'\); a classifier needs at least two, each in its own folder"):
        data.open(class_folder({"cat": 5}))


def test_one_image_a_class(class_folder) -> None:
    root = class_folder({"a": 1, "b": 1, "c": 9})
    with pytest.raises(DataError) as caught:
        data.open(root)
    message = "every class needs at least 3 different images, one each for train and val and test; too few in a (1), b (1)"
    assert message in str(caught.value)
    assert len(data.open(root, val=0, test=0).train) == 11


def test_a_class_without_images_is_dropped_and_told(class_folder) -> None:
    root = class_folder({"a": 5, "b": 0, "c": 5})
    dataset = data.open(root)
    assert dataset.classes == ("a", "c")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    [problem] = dataset.problems
    assert (problem.name, problem.kind, problem.left_out) == ("b", "class", True)


def test_a_class_missing_from_a_part(class_folder) -> None:
    class_folder({"a": 5, "b": 5}, under="train")
    root = class_folder({"a": 2}, under="test", seed=50)
    [problem] = data.open(root).problems
    assert (problem.name, problem.left_out) == ("b", False)
    assert problem.reason == "the class has no image in test; its accuracy cannot be measured there"


def test_a_class_missing_from_train(class_folder) -> None:
    class_folder({"a": 5, "b": 5}, under="train")
    root = class_folder({"a": 2, "c": 2}, under="test", seed=50)
    with pytest.raises(DataError, match="no usable training image of c; add some or remove the class"):
        data.open(root)


def test_all_files_bad_says_so_shortly(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(500):
            (tmp_path / label / f"{index}.jpg").touch()
        (tmp_path / label / "note.jpg").write_text("not a picture")
    with pytest.raises(DataError) as caught:
        data.open(tmp_path)
    message = str(caught.value)
    assert "has no usable image: 1000 empty, 2 unreadable" in message
    assert "The first: 'cat/0.jpg': the file is empty (0 bytes); " in message
    assert len(message) < 600


@pytest.mark.slow
def test_a_hundred_thousand_empty_files(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(50_000):
            os.close(os.open(tmp_path / label / f"{index}.jpg", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(DataError, match="has no usable image: 100000 empty"):
        data.open(tmp_path)
    health = data.check(tmp_path)
    assert (health.left_out, health.images, health.kinds["empty"]) == (100_000, 0, 100_000)


def test_a_path_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no '.*nowhere'; give a folder of class folders, a CSV, an npz"):
        data.open(tmp_path / "nowhere")
    (tmp_path / "x.bin").write_bytes(b"abc")
    with pytest.raises(DataError, match=r"is not a source of images that is read; give a folder, \.csv, \.txt, \.npz"):
        data.open(tmp_path / "x.bin")
    with pytest.raises(DataError, match="cannot look at"):
        data.open("a\0b")

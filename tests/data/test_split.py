from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.source import FREE, resident
from convsmith.data.split import LEFT_OUT, divide
from convsmith.errors import DataError, UsageError


def source_of(labels: list[int], contents: list[int] | None = None, given: list[int] | None = None, classes: int = 2):
    """A source of 2 x 2 images; equal ``contents`` are equal images."""
    contents = list(range(len(labels))) if contents is None else contents
    images = np.array([np.frombuffer(hashlib.md5(str(value).encode()).digest()[:4], np.uint8) for value in contents])
    images = images.reshape(-1, 2, 2, 1)
    parts = [FREE] * len(labels) if given is None else given
    pairs = enumerate(zip(parts, labels, strict=True))
    blocks = [(f"block{index}", part, images[index : index + 1], np.array([label])) for index, (part, label) in pairs]
    return resident("toy", "toy", [f"class{index}" for index in range(classes)], blocks)


def counts(division, source, part: int) -> list[int]:
    return np.bincount(source.labels[division.part == part], minlength=len(source.classes)).tolist()


def test_every_class_has_its_fraction_in_every_part() -> None:
    source = source_of([0] * 50 + [1] * 10)
    division = divide(source, 0.2, 0.1, 0)
    assert [counts(division, source, part) for part in range(3)] == [[35, 7], [10, 2], [5, 1]]


def test_the_least_class_has_one_in_each_part() -> None:
    source = source_of([0] * 3 + [1] * 40)
    division = divide(source, 0.2, 0.2, 0)
    assert [counts(division, source, part)[0] for part in range(3)] == [1, 1, 1]
    with pytest.raises(DataError, match=r"every class needs at least 3 different images.*too few in class0 \(2\)"):
        divide(source_of([0] * 2 + [1] * 40), 0.2, 0.2, 0)


@pytest.mark.parametrize("seed", range(10))
def test_identical_images_stay_in_one_part(seed) -> None:
    rng = np.random.default_rng(seed)
    contents = rng.integers(0, 30, 100)
    source = source_of((contents % 2).tolist(), contents.tolist())
    division = divide(source, 0.3, 0.3, seed)
    for value in range(30):
        assert len(set(division.part[contents == value])) <= 1
    assert (division.part != LEFT_OUT).all()
    assert all(not problem.left_out and problem.kind == "duplicate" for problem in division.problems)
    assert len(division.problems) == 100 - len(set(contents.tolist()))


def test_the_seed_decides_and_the_order_of_the_files_does_not() -> None:
    labels, contents = [0] * 30 + [1] * 30, list(range(60))
    first = divide(source_of(labels, contents), 0.2, 0.2, 7).part
    again = divide(source_of(labels, contents), 0.2, 0.2, 7).part
    other = divide(source_of(labels, contents), 0.2, 0.2, 8).part
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    order = np.random.default_rng(0).permutation(60)
    shuffled = divide(source_of([labels[i] for i in order], [contents[i] for i in order]), 0.2, 0.2, 7).part
    np.testing.assert_array_equal(shuffled, first[order])


def test_adding_images_moves_few_others() -> None:
    labels = [0] * 200 + [1] * 200
    before = divide(source_of(labels), 0.2, 0.2, 0).part
    after = divide(source_of(labels + [1] * 10, list(range(410))), 0.2, 0.2, 0).part[:400]
    assert (before != after).sum() <= 10


def test_one_image_under_two_labels_leaves() -> None:
    source = source_of([0] * 10 + [1] * 10, [*range(19), 0])
    division = divide(source, 0.2, 0.2, 0)
    assert np.flatnonzero(division.part == LEFT_OUT).tolist() == [0, 19]
    assert [problem.kind for problem in division.problems] == ["conflict", "conflict"]
    assert division.problems[0].reason == "the same image stands under 2 labels (class0, class1)"


def test_every_image_under_two_labels() -> None:
    with pytest.raises(DataError, match=r"toy: every image stands under two or more labels \('block0\[0\]' first\); correct the labels"):
        divide(source_of([0, 1] * 5, [3] * 10), 0.2, 0.2, 0)


def test_a_training_copy_of_a_given_test_image_leaves() -> None:
    given = [0] * 8 + [2] * 4
    source = source_of([0, 1] * 6, [0, 1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11], given)
    division = divide(source, 0, 0, 0)
    assert division.part.tolist() == [LEFT_OUT, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2]
    [problem] = division.problems
    assert (problem.name, problem.kind) == ("block0[0]", "duplicate")
    assert problem.reason == "the same image stands in test as 'block8[0]'; left out of train"


def test_a_given_test_part_is_never_made_smaller() -> None:
    given = [0] * 8 + [2] * 4
    source = source_of([0, 1] * 6, [0, 1, 2, 3, 4, 5, 6, 7, 1, 9, 9, 11], given)
    division = divide(source, 0, 0, 0)
    assert division.part[8:].tolist() == [2] * 4
    assert division.part[1] == LEFT_OUT
    kept = [problem for problem in division.problems if not problem.left_out]
    assert {problem.name for problem in kept} == {"block8[0]", "block9[0]", "block10[0]"}
    assert all("kept, because a given test part is not changed" in problem.reason for problem in kept)


def test_zero_fractions_carve_nothing() -> None:
    source = source_of([0] * 10 + [1] * 10)
    assert set(divide(source, 0, 0.2, 0).part) == {0, 2}
    assert set(divide(source, 0.2, 0, 0).part) == {0, 1}
    assert set(divide(source, 0, 0, 0).part) == {0}


def test_a_dataset_without_validation_says_so() -> None:
    dataset = data.open("digits", val=0)
    assert set(dataset.splits) == {"train", "test"}
    with pytest.raises(UsageError, match=r"digits was opened without a validation part; open it with val=0\.2"):
        _ = dataset.val


def test_images_that_are_only_looked_at(class_folder) -> None:
    root = class_folder({"cat": 2}, under="test")
    with pytest.raises(DataError, match="no train part"):
        data.open(root)
    dataset = data.open(root, trainable=False)
    assert (dataset.classes, len(dataset.test)) == (("cat",), 2)
    with pytest.raises(UsageError, match="photos has no train part; it has test"):
        _ = dataset.train
    single = data.open(root / "test", trainable=False)
    assert set(single.splits) == {"train"} and len(single.train) == 2


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.2, 1.0), (0.5, 0.5), (float("nan"), 0.2)])
def test_impossible_fractions(val, test) -> None:
    with pytest.raises(UsageError, match="each must be at least 0 and their sum below 1"):
        data.open("digits", val=val, test=test)


def test_conflicting_files_leave_and_copies_stay_together(class_folder, picture) -> None:
    root = class_folder({"cat": 9, "dog": 9})
    Image.fromarray(picture(5000)).save(root / "cat" / "both.png")
    Image.fromarray(picture(5000)).save(root / "dog" / "both.bmp")
    for copy in range(3):
        (root / "cat" / f"copy{copy}.png").write_bytes((root / "cat" / "000.png").read_bytes())
    dataset = data.open(root)
    assert {problem.name for problem in dataset.problems if problem.kind == "conflict"} == {"cat/both.png", "dog/both.bmp"}
    copies = {f"cat/copy{copy}.png" for copy in range(3)} | {"cat/000.png"}
    homes = [part for part, split in dataset.splits.items() if copies & {split.name(i) for i in range(len(split))}]
    assert len(homes) == 1
    assert sum(map(len, dataset.splits.values())) == 21
    assert sum(problem.left_out for problem in dataset.problems) == 2


PINNED = "f443a44d5bc654dd"


def test_the_parts_are_pinned() -> None:
    """A change of the split changes every published figure: it must be a decision."""
    rows = data.open("digits", seed=0).test.rows
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16] == PINNED


def test_fingerprint_tells_labels_names_pixels_and_parts(class_folder, picture, tmp_path: Path) -> None:
    root = class_folder({"cat": 6, "dog": 6})
    first = data.fingerprint(data.open(root))
    assert data.fingerprint(data.open(root)) == first
    assert data.fingerprint(data.open(root, seed=1)) != first
    renamed = root.rename(tmp_path / "renamed")
    assert data.fingerprint(data.open(renamed)) == first
    Image.fromarray(picture(1)).save(renamed / "cat" / "000.png")
    assert data.fingerprint(data.open(renamed)) != first


def test_without_a_wish_validation_takes_a_fifth_but_at_most_five_thousand(tmp_path: Path) -> None:
    for count, expected in ((400, 80), (60_000, 5_000)):
        images = np.arange(count * 4, dtype=np.uint32).view(np.uint8).reshape(count, 4, 4)
        np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(count) % 10, x_test=images[:20] ^ 255, y_test=np.arange(20) % 10)
        assert abs(len(data.open(tmp_path / "set.npz").val) - expected) <= 10  # rounded class by class

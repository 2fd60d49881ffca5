"""Planted faults are found: copies, leaks, blanks, blur, wrong labels; and left out or scored apart by the list."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from convsmith import data
from convsmith.data.likeness import near_pairs
from convsmith.data.measures import blur_effect, measure_pixels
from convsmith.data.suspicion import label_beliefs, suspicious
from convsmith.errors import DataError

COLOURS = {"cat": (200, 80, 60), "dog": (60, 90, 200)}


def scene(seed: int, colour=(120, 120, 120), side=96) -> Image.Image:
    """A picture with structure of several scales: coarse and fine random fields in a class colour."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 8), np.uint8)).resize((side * 5 // 4, side), Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (24, 30), np.uint8)).resize((side * 5 // 4, side), Image.Resampling.NEAREST)
    field = (0.7 * np.asarray(coarse, float) + 0.3 * np.asarray(fine, float))[:, :, None] - 128
    return Image.fromarray((np.array(colour) + 0.8 * field).clip(0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path):
    """60 scenes of two classes in given parts."""
    for part, count in (("train", 20), ("test", 10)):
        for place, (label, colour) in enumerate(COLOURS.items()):
            folder = tmp_path / "photos" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                scene(1000 * place + 100 * (part == "test") + number, colour).save(folder / f"{number:02}.png")
    return tmp_path / "photos"


def test_copies_are_found_in_every_disguise_and_different_pictures_are_not() -> None:
    originals = [scene(seed) for seed in range(40)]
    width, height = originals[0].size
    disguises = [
        lambda image: image.resize((width // 2, height // 2)),
        lambda image: image.point(lambda level: min(255, int(1.2 * level))),
        lambda image: image.crop((3, 3, width - 3, height - 3)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.convert("L").convert("RGB"),
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    ]
    copies = [disguises[number % len(disguises)](image) for number, image in enumerate(originals[:24])]
    thumbs = measure_pixels([np.asarray(image) for image in originals + copies]).thumbs
    found = {(pair.first, pair.second) for pair in near_pairs(thumbs)}
    planted = {(number, 40 + number) for number in range(24)}
    assert found == planted  # recall and precision 1
    mirrored = {pair.first % 6 for pair in near_pairs(thumbs) if pair.mirrored}
    assert mirrored == {3}


def test_flat_pictures_resemble_nothing() -> None:
    noise = np.random.default_rng(0).integers(126, 130, (6, 40, 40, 3), np.uint8)
    assert near_pairs(measure_pixels(list(noise)).thumbs) == []
    assert near_pairs(measure_pixels([]).thumbs) == []


def test_blur_grows_with_the_blur() -> None:
    image = scene(5, side=160).convert("L")
    effects = [blur_effect(np.asarray(image.filter(ImageFilter.GaussianBlur(s)), np.float32) / 255) for s in (0, 1, 2, 4, 8)]
    assert effects == sorted(effects) and effects[0] < 0.4 and effects[-1] > 0.62
    assert blur_effect(np.full((20, 20), 0.5, np.float32)) == 1.0


def test_leaving_one_out_in_closed_form_equals_training_without_the_image() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 3)).astype(np.float32), rng.integers(0, 3, 30)
    features[:, 0] += labels
    beliefs = label_beliefs(features, labels, 3)
    assert np.allclose(beliefs.sum(axis=1), 1)
    # an image's own label has no influence on its belief beyond the common prior, ridge and temperature
    changed = labels.copy()
    changed[4] = (labels[4] + 1) % 3
    again = label_beliefs(features, changed, 3)
    assert np.abs(beliefs[4] - again[4]).max() < 0.06


def test_flipped_labels_are_found() -> None:
    digits = data.open("digits", val=0, test=0)
    labels = digits.train.labels.copy()
    features = measure_pixels([digits.train.image(index) for index in range(len(labels))]).features
    rng = np.random.default_rng(1)
    flipped = rng.choice(len(labels), 60, replace=False)
    labels[flipped] = (labels[flipped] + rng.integers(1, 10, 60)) % 10
    found = suspicious(label_beliefs(features, labels, 10), labels)
    recall, precision = np.isin(flipped, found).mean(), np.isin(found, flipped).mean()
    assert recall >= 0.9 and precision >= 0.9, (recall, precision)


def test_every_planted_fault_of_a_folder_is_told_and_the_list_leaves_out_the_right_ones(photos, tmp_path) -> None:
    leak = Image.open(photos / "test/cat/03.png")
    leak.resize((100, 80)).save(photos / "train/cat/leak.jpg", quality=70)
    Image.open(photos / "train/dog/05.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "train/dog/twin.png")
    Image.open(photos / "train/dog/07.png").resize((90, 72)).save(photos / "train/cat/other.png")
    Image.new("RGB", (120, 96), (140, 140, 141)).save(photos / "train/cat/blank.png")
    scene(80, COLOURS["cat"]).point(lambda level: level // 9).save(photos / "train/cat/dark.png")
    scene(77, COLOURS["dog"]).filter(ImageFilter.GaussianBlur(9)).save(photos / "train/dog/soft.png")
    scene(78, COLOURS["dog"], side=12).save(photos / "train/dog/tiny.png")
    scene(79, COLOURS["cat"]).convert("L").save(photos / "train/cat/grey.png")
    health = data.check(photos)
    told = {(finding.kind, finding.name) for finding in health.findings}
    for kind, name in (
        ("leak", "train/cat/leak.jpg"),
        ("near_duplicate", "train/dog/twin.png"),
        ("near_conflict", "train/cat/other.png"),
        ("near_conflict", "train/dog/07.png"),
        ("blank", "train/cat/blank.png"),
        ("dark", "train/cat/dark.png"),
        ("blurred", "train/dog/soft.png"),
        ("size", "train/dog/tiny.png"),
        ("mode", "train/cat/grey.png"),
    ):
        assert (kind, name) in told, (kind, name, told)
    unplanted = {name for _, name in told} - {"train/dog/07.png"}
    assert all(len(name.rpartition("/")[2]) > len("00.png") for name in unplanted), told  # nothing but planted faults
    listed = tmp_path / "exclude.txt"
    listed.write_text(data.exclusion_list(health.source, health.findings, health.given_test))
    named = data.read_list(listed)
    assert {name for name, (kind, _) in named.items() if kind != "leaked"} == {
        "train/cat/leak.jpg", "train/dog/twin.png", "train/cat/other.png", "train/dog/07.png", "train/cat/blank.png",
    }  # fmt: skip
    assert named["test/cat/03.png"][0] == "leaked"
    without = data.open(photos, exclude=listed)
    names = [split.name(index) for split in without.splits.values() for index in range(len(split))]
    assert not set(named) - {"test/cat/03.png"} & set(names) and "test/cat/03.png" in names
    assert sum(problem.kind == "excluded" for problem in without.problems) == 5
    assert data.check(photos, exclude=listed).near == ()


def test_a_list_of_other_images_is_an_error(photos, tmp_path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\ntrain/cat/99.png\tblank\n")
    with pytest.raises(DataError, match=r"list.txt' names no image of .*; its first is 'train/cat/99.png'. Did you mean"):
        data.open(photos, exclude=tmp_path / "list.txt")
    with pytest.raises(DataError, match="cannot be read"):
        data.open(photos, exclude=tmp_path / "none.txt")


def test_images_of_an_array_can_be_left_out_too(tmp_path) -> None:
    whole = data.open("digits", val=0, test=0)
    gone = [whole.train.name(index) for index in (3, 70)]
    (tmp_path / "list.txt").write_text("\n".join(gone))
    less = data.open("digits", val=0, test=0, exclude=tmp_path / "list.txt")
    assert len(less.train) == len(whole.train) - 2
    names = [less.train.name(index) for index in range(len(less.train))]
    assert not set(gone) & set(names)
    place = names.index(whole.train.name(71))
    assert (less.train.image(place) == whole.train.image(71)).all()


def test_the_limit_leaves_the_second_look_out(photos) -> None:
    health = data.check(photos, limit=10)
    assert health.findings is None and health.near is None and health.to_dict()["findings"] is None

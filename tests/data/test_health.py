from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.errors import DataError


def test_a_messy_folder_is_counted(class_folder, picture) -> None:
    root = class_folder({"cat": 12, "dog": 6}, height=40, width=48)
    (root / "cat" / "copy.png").write_bytes((root / "cat" / "000.png").read_bytes())
    Image.fromarray(picture(900, 40, 48)).save(root / "cat" / "both.png")
    Image.fromarray(picture(900, 40, 48)).save(root / "dog" / "both.png")
    Image.fromarray(picture(901, 64, 33, 1)[:, :, 0]).save(root / "dog" / "grey.jpg")
    (root / "dog" / "empty.png").touch()
    (root / "dog" / "short.png").write_bytes((root / "dog" / "000.png").read_bytes()[:900])
    health = data.check(root)
    assert health.ok and health.errors == ()
    assert (health.images, health.channels, health.classes) == (22, 3, ("cat", "dog"))
    assert {part: sum(count) for part, count in health.counts.items()} == {"train": 12, "val": 4, "test": 4}
    assert (health.sizes["least"], health.sizes["greatest"], health.uniform) == ((40, 33), (64, 48), False)
    assert health.modes == {"RGB": 21, "L": 1} and health.formats == {"PNG": 21, "JPEG": 1}
    assert health.duplicates == (("cat/000.png", "cat/copy.png"), ("cat/both.png", "dog/both.png"))
    assert health.kinds == {"conflict": 2, "empty": 1, "truncated": 1, "duplicate": 1}
    assert health.left_out == 4
    assert health.imbalance == round(14 / 8, 2)
    plain = json.loads(json.dumps(health.to_dict()))
    assert plain["ok"] and plain["left_out"] == 4
    assert plain["duplicates"][0] == ["cat/000.png", "cat/copy.png"]
    assert plain["problems"][0] == {"name": "dog/empty.png", "kind": "empty", "reason": "the file is empty (0 bytes)", "left_out": True}
    assert health.counts == {part: count.tolist() for part, count in data.open(root).counts().items()}


def test_pictures_that_look_alike_are_paired(tmp_path: Path, picture) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for seed in range(6):
            smooth = np.kron(picture(seed + 10 * (label == "dog"), 8, 9), np.ones((6, 6, 1), np.uint8))
            Image.fromarray(smooth).save(tmp_path / label / f"{seed}.png")
    Image.open(tmp_path / "cat" / "3.png").resize((96, 84)).save(tmp_path / "dog" / "again.jpg", quality=90)
    health = data.check(tmp_path)
    assert health.near == (("cat/3.png", "dog/again.jpg"),) and health.near_count == 1
    assert health.duplicates == ()


def test_what_open_would_refuse_is_told_instead(class_folder, tmp_path: Path) -> None:
    health = data.check(class_folder({"cat": 5, "dog": 1}))
    assert not health.ok
    assert "too few in dog (1)" in health.errors[0]
    assert (health.images, health.imbalance) == (6, 5.0)
    one = tmp_path / "one" / "cat"
    one.mkdir(parents=True)
    (one / "a.png").touch()
    health = data.check(tmp_path / "one")
    assert "has no usable image: 1 empty" in health.errors[0]
    assert (health.images, health.left_out, health.sizes, health.uniform, health.imbalance) == (0, 1, {}, False, 0.0)
    json.dumps(health.to_dict())
    with pytest.raises(DataError, match="there is no"):
        data.check(tmp_path / "none")


def test_arrays_have_health_too() -> None:
    health = data.check("digits")
    assert health.ok and health.uniform and health.near is None
    assert (health.images, health.sizes["median"], health.problems) == (1797, (8, 8), ())
    assert health.imbalance == round(183 / 174, 2)


@pytest.mark.real_data
def test_the_photo_folders_are_well(real_data: Path) -> None:
    for name, images in (("flowers5", 350), ("trashnet", 252)):
        health = data.check(real_data / "data" / name)
        assert (health.ok, health.images, health.left_out, health.imbalance) == (True, images, 0, 1.0)

"""The contact sheet: what is on it, and that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data, jobs, runs
from convsmith.errors import UsageError
from convsmith.jobs import preparation, train
from convsmith.jobs.preview import Config, draw
from convsmith.training import Augment


def test_sheet_of_digits_has_the_plain_images_first(tmp_path: Path) -> None:
    config = Config(data="digits", rows=3, epochs=2, sheet=tmp_path / "sheet.png")
    outcome = jobs.perform("preview", config)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * 100 + 4, 3 * 100 + 16, 3)
    dataset = data.open("digits")
    preprocess, _ = data.choose_preprocess(dataset)
    first = data.pixels(dataset.train, preprocess)[0, :, :, 0]
    # normalised and back: within a rounding of one level
    assert np.abs(sheet[4:100:12, 4:100:12, 0].astype(int) - first).max() <= 1
    assert outcome.result["augment"]["rotate"] == 10 and "flip" not in outcome.result["augment"]
    with pytest.raises(UsageError, match=r"exists already; name another file with --sheet"):
        jobs.perform("preview", config)


def test_the_way_of_resizing_is_a_setting_of_preview_and_training(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "wide" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([number, ord(name)]).integers(100, 256, (20, 60), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "wide" / name / f"{number}.png")
    settings = {"data": str(tmp_path / "wide"), "size": 16, "resize": "fill"}
    prepared = preparation.prepare(train.Config.model_validate(settings), runs.Unrecorded())
    assert prepared.preprocess.resize == "fill"
    jobs.perform("preview", settings | {"rows": 1, "epochs": 1, "sheet": str(tmp_path / "sheet.png")})
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))[:, :, 0]
    # a third of the square is the image: black lines above and below it, at least a pixel of the 16 from its blurred edge
    assert sheet[4 : 4 + 24, 4:100].max() <= 1 and sheet[4 + 42 : 4 + 54, 4:100].min() > 90


def test_what_is_set_is_shown() -> None:
    dataset = data.open("digits")
    preprocess, _ = data.choose_preprocess(dataset)
    still = draw(dataset.train, preprocess, Augment(), rows=2, epochs=1, seed=0)
    np.testing.assert_array_equal(still[:, 4:100], still[:, 116:212])
    erased = draw(dataset.train, preprocess, Augment(erase=0.5, mixup=0.5, crop="resnet"), rows=2, epochs=1, seed=0)
    assert erased.shape == still.shape and not np.array_equal(erased[:, 116:212], still[:, 116:212])


def test_presets_are_joined_and_leave_mirroring_to_the_images() -> None:
    joined = Augment.model_validate("resnet+lighting+erase")
    assert joined == Augment(crop="resnet", lighting=0.1, erase=0.25)
    assert Augment.model_validate({"like": "photos+cifar", "rotate": 3}) == Augment(shift=0.125, rotate=3, scale=0.25, light=0.3)
    with pytest.raises(ValueError, match=r"there is no augmentation 'resnt'; there are none, photos, .* Did you mean 'resnet'\?"):
        Augment.model_validate("resnt")
    for flip, told in (
        (None, "images are not mirrored"),
        (True, "images are mirrored as asked, though they speak against it"),
        (False, ""),
    ):
        settings = {"augment": {"like": "erase"} | ({} if flip is None else {"flip": flip})}
        prepared = preparation.prepare(train.Config(data="digits", training=settings), runs.Unrecorded())
        choices = [row["choice"] for row in prepared.decisions if "mirrored" in row["choice"]]
        assert choices == ([told] if told else []) and prepared.training.augment == Augment(erase=0.25, flip=bool(flip))

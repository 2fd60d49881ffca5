from __future__ import annotations

import numpy as np
import pytest

from convsmith import data


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 28), (28, 28)),
        ((64, 48), (64, 48)),
        ((240, 320), (224, 224)),
        ((65, 90), (64, 64)),
        ((100, 130), (96, 96)),
        ((1, 1), (1, 1)),
    ],
)
def test_equal_images(class_folder, size, expected) -> None:
    preprocess, reason = data.choose_preprocess(data.open(class_folder({"a": 4, "b": 4}, *("", *size))))
    assert (preprocess.height, preprocess.width) == expected
    own = "the images' own size" if expected == size else f"the median short side is {min(size)} pixels"
    assert own in reason


def test_mixed_small_images_go_to_a_multiple_of_eight(class_folder) -> None:
    class_folder({"a": 9}, "", 21, 25)
    preprocess, reason = data.choose_preprocess(data.open(class_folder({"b": 8}, "", 30, 33, seed=70)))
    assert preprocess.height == preprocess.width and preprocess.height in (24, 32)
    assert "the median short side is" in reason


def test_the_size_and_resize_that_are_asked_for(class_folder) -> None:
    dataset = data.open(class_folder({"a": 4, "b": 4}, "", 40, 30))
    preprocess, reason = data.choose_preprocess(dataset, 16, "squash")
    assert (preprocess.height, preprocess.width, preprocess.resize) == (16, 16, "squash")
    assert reason.startswith("16x16 RGB: as asked")
    preprocess, _ = data.choose_preprocess(dataset, (8, 12))
    assert (preprocess.height, preprocess.width) == (8, 12)


def test_long_images_are_squashed(class_folder) -> None:
    preprocess, reason = data.choose_preprocess(data.open(class_folder({"a": 4, "b": 4}, "", 70, 200)))
    assert preprocess.resize == "squash"
    assert "squashed because a crop would lose more than half of most images" in reason


@pytest.mark.parametrize("workers", [0, 1])
def test_mean_and_deviation_are_numpys(class_folder, workers) -> None:
    dataset = data.open(class_folder({"a": 10, "b": 10}, "", 30, 22))
    preprocess, _ = data.choose_preprocess(dataset, 16, workers=workers)
    x = data.pixels(dataset.train, preprocess).astype(np.float64) / 255
    # rounded to six decimals
    np.testing.assert_allclose(preprocess.mean, x.mean(axis=(0, 1, 2)), atol=6e-7)
    np.testing.assert_allclose(preprocess.std, x.std(axis=(0, 1, 2)), atol=6e-7)
    normal = data.normalise(data.pixels(dataset.train, preprocess), preprocess)
    assert abs(normal.mean()) < 1e-4 and abs(normal.std() - 1) < 1e-4


def test_grey_and_mixed_sources_choose_their_channels(class_folder) -> None:
    class_folder({"a": 5}, channels=1)
    assert data.choose_preprocess(data.open(class_folder({"b": 5}, channels=1, seed=80)))[0].channels == 1
    mixed, _ = data.choose_preprocess(data.open(class_folder({"c": 5}, channels=3, seed=90)))
    assert mixed.channels == 3


def test_constant_images_do_not_divide_by_zero(tmp_path) -> None:
    images = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None] * 0 + 7, 4, axis=1).repeat(4, axis=2)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.zeros(20, np.int64), x_test=images, y_test=np.zeros(20, np.int64))
    from convsmith.data.input_size import moments
    from convsmith.data.npz import open_npz

    split = open_npz(tmp_path / "x.npz").take(np.arange(5))
    mean, std = moments(split, data.Preprocess(4, 4, 1, mean=(0.5,), std=(0.5,)), np.arange(5))
    assert mean == (round(7 / 255, 6),) and std == (1.0,)

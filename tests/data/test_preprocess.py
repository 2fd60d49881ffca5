from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from convsmith.data import Preprocess, affine, crop_box, normalise, prepare, resize, to_channels
from convsmith.errors import UsageError


def area_bilinear(x: np.ndarray, size: int) -> np.ndarray:
    """Resize axis 0 with the triangle filter, widened when shrinking, in float64."""
    scale = x.shape[0] / size
    support = max(scale, 1.0)
    rows = []
    for place in range(size):
        centre = (place + 0.5) * scale
        low, high = max(0, int(centre - support + 0.5)), min(x.shape[0], int(centre + support + 0.5))
        weight = np.maximum(0, 1 - np.abs((np.arange(low, high) + 0.5 - centre) / support))
        rows.append(np.tensordot(weight / weight.sum(), x[low:high], 1))
    return np.stack(rows)


@pytest.mark.parametrize("size", [(30, 40), (7, 5), (16, 16), (33, 100), (1, 1), (2, 300)])
@pytest.mark.parametrize("target", [(16, 16), (24, 9), (1, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_squash_is_the_area_bilinear_filter(picture, size, target, channels) -> None:
    image = picture(0, *size, channels)
    preprocess = Preprocess(*target, channels, "squash", mean=(0.5,) * channels, std=(0.5,) * channels)
    exact = area_bilinear(area_bilinear(image.astype(np.float64), target[0]).swapaxes(0, 1), target[1]).swapaxes(0, 1)
    found = resize(image, preprocess)
    assert found.shape == (*target, channels) and found.dtype == np.uint8
    # two passes that each round to whole levels: half a level each, the second averages the first
    assert np.abs(found - exact).max() <= 1.0 + 1e-3


def test_same_size_is_the_identity_and_contiguous(picture) -> None:
    image = picture(1, 10, 14)
    found = resize(image, Preprocess(10, 14))
    np.testing.assert_array_equal(found, image)
    cropped = resize(image, Preprocess(10, 10))
    np.testing.assert_array_equal(cropped, image[:, 2:12])
    assert cropped.flags.c_contiguous


def test_pixels_outside_the_crop_have_no_influence(picture) -> None:
    image = picture(2, 20, 60)
    other = image.copy()
    other[:, :20], other[:, 40:] = 0, 255
    np.testing.assert_array_equal(resize(image, Preprocess(8, 8)), resize(other, Preprocess(8, 8)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_image_stays_constant(channels) -> None:
    preprocess = Preprocess(17, 9, channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    for level in (0, 1, 127, 254, 255):
        assert (resize(np.full((50, 31, channels), level, np.uint8), preprocess) == level).all()


def test_crop_boxes_by_hand() -> None:
    assert crop_box(Preprocess(32, 32), 100, 200) == (0, 50, 100, 150)
    assert crop_box(Preprocess(32, 32, crop_fraction=0.875), 256, 256) == (16, 16, 240, 240)
    assert crop_box(Preprocess(32, 64), 100, 100) == (25, 0, 75, 100)
    assert crop_box(Preprocess(32, 32, resize="squash"), 100, 200) == (0, 0, 100, 200)
    assert crop_box(Preprocess(224, 224), 1, 1) == (0, 0, 1, 1)
    assert crop_box(Preprocess(1, 224), 1, 1) == (0, 0, 1, 1)


def test_boxes_that_reach_beyond_the_image_by_hand() -> None:
    assert crop_box(Preprocess(32, 32, resize="fill"), 100, 200) == (-50, 0, 150, 200)
    assert crop_box(Preprocess(32, 32, resize="fill"), 101, 200) == (-49, 0, 151, 200)
    assert crop_box(Preprocess(32, 64, resize="fill"), 100, 100) == (0, -50, 100, 150)
    assert crop_box(Preprocess(32, 32, resize="fill", crop_fraction=0.5), 100, 200) == (0, 50, 100, 150)
    assert crop_box(Preprocess(32, 32, resize="half_crop"), 100, 200) == (-25, 25, 125, 175)
    assert crop_box(Preprocess(32, 32, resize="half_crop"), 60, 60) == (0, 0, 60, 60)
    assert crop_box(Preprocess(1, 224, resize="fill"), 1, 1) == (0, -111, 1, 113)


@pytest.mark.parametrize("mode", ["fill", "half_crop"])
@pytest.mark.parametrize("size", [(20, 61), (61, 20), (16, 16), (3, 200)])
def test_what_the_box_holds_beyond_the_image_is_black(picture, mode, size) -> None:
    """The oracle: a canvas of the box's size, made black, the image pasted in by Pillow, and one squash of it."""
    preprocess = Preprocess(16, 24, resize=mode, crop_fraction=0.9)
    image = picture(8, *size)
    top, left, bottom, right = crop_box(preprocess, *size)
    canvas = Image.new("RGB", (right - left, bottom - top))
    canvas.paste(Image.fromarray(image), (-left, -top))
    expected = resize(np.asarray(canvas), Preprocess(16, 24, resize="squash"))
    np.testing.assert_array_equal(resize(image, preprocess), expected)
    np.testing.assert_array_equal(prepare([image], preprocess), normalise(expected[None], preprocess))


def test_fill_keeps_all_of_the_image_and_half_crop_half_of_what_crop_loses(picture) -> None:
    white = np.full((50, 100, 3), 255, np.uint8)
    filled, half = (resize(white, Preprocess(64, 64, resize=mode)) for mode in ("fill", "half_crop"))
    assert (filled[17:47] == 255).all() and not filled[:15].any() and not filled[49:].any()
    # 75 of 100 columns over 50 rows in a box of 75: two thirds of 64 rows are white, ten and a half lines black above and below
    assert (half[12:52] == 255).all() and not half[:10].any() and not half[54:].any()


@pytest.mark.parametrize("seed", range(20))
def test_crop_boxes_lie_inside_and_are_centred(seed) -> None:
    rng = np.random.default_rng(seed)
    height, width, target_height, target_width = (int(value) for value in rng.integers(1, 400, 4))
    fraction = float(rng.uniform(0.3, 1))
    top, left, bottom, right = crop_box(Preprocess(target_height, target_width, crop_fraction=fraction), height, width)
    assert 0 <= top < bottom <= height and 0 <= left < right <= width
    assert abs(top - (height - bottom)) <= 1 and abs(left - (width - right)) <= 1
    # the limiting side has exactly the fraction, up to whole pixels
    assert max((bottom - top) / height, (right - left) / width) <= fraction + 1 / min(height, width)


def test_grey_weighs_by_itu_601_and_rgb_repeats(picture) -> None:
    image = picture(3, 5, 6)
    exact = image @ np.array([0.299, 0.587, 0.114])
    # Pillow sums in 16-bit fixed point and rounds to a level
    assert np.abs(to_channels(image, 1)[:, :, 0] - exact).max() <= 0.51
    grey = picture(4, 5, 6, 1)
    assert (to_channels(grey, 3) == grey).all() and to_channels(grey, 3).shape == (5, 6, 3)
    assert to_channels(image, 3) is image


def test_normalise_is_pixel_minus_mean_over_std(picture) -> None:
    preprocess = Preprocess(4, 5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    x_nhwc = np.stack([picture(5, 4, 5), picture(6, 4, 5)])
    exact = ((x_nhwc / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)).transpose(0, 3, 1, 2)
    found = normalise(x_nhwc, preprocess)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    # float32: scale, shift, product and sum each round once at magnitudes up to 5
    np.testing.assert_allclose(found, exact, atol=2e-6, rtol=0)
    scale, shift = affine(preprocess)
    np.testing.assert_array_equal(found[1, 2], x_nhwc[1, :, :, 2].astype(np.float32) * scale[2] + shift[2])


def test_the_dictionary_round_trips_through_json() -> None:
    preprocess = Preprocess(28, 32, 1, "squash", 0.9, (0.1,), (0.3,))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 2}, "channels is 2; allowed are 1 (grey) and 3 (RGB)"),
        ({"channels": 1}, "mean and std need 1 numbers, got 3 and 3"),
        ({"height": 0}, "input 0x8 with crop fraction 1.0 is empty"),
        ({"crop_fraction": 0.0}, "with crop fraction 0.0 is empty"),
        ({"crop_fraction": 1.5}, "with crop fraction 1.5 is empty"),
    ],
)
def test_impossible_preprocessing_is_refused(fields, message) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess(**{"height": 8, "width": 8, **fields})
    assert message in str(caught.value)


def test_one_axis_at_a_time_is_pillows_own_resize_where_one_axis_changes(picture) -> None:
    image = picture(7, 40, 16)
    found = resize(image, Preprocess(16, 16, resize="squash"))
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)))
    assert math.isclose(found.mean(), image.mean(), abs_tol=1.0)

"""Which parts of an image are looked at in a test: flips, ten crops, ten crops at five scales."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from convsmith.data.preprocess import Preprocess, crop_box

NETWORK_PX: Final = 224
"""The input of the networks for which the scales below were published; for others they are in proportion."""

CROP_PX: Final = 256
RESNET_PX: Final = (224, 256, 384, 480, 640)
CORNERS: Final = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class View:
    """A box of an image, mirrored or not.

    ``short_px``: length of the image's short side in units in which the box is 224; 0 is the box of the preprocessing. ``row``,
    ``column``: where it lies, 0 to 1; 0.5 is the middle.
    """

    short_px: int = 0
    row: float = 0.5
    column: float = 0.5
    mirrored: bool = False


PLAIN: Final = (View(),)
FLIP: Final = (View(), View(mirrored=True))


def ten_crops(short_px: int = CROP_PX) -> tuple[View, ...]:
    """Return the middle and the four corners of an image and of its mirror image.

    References: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    """
    return tuple(View(short_px, row, column, mirrored) for mirrored in (False, True) for row, column in CORNERS)


def five_scales() -> tuple[View, ...]:
    """Return ten crops at each of five scales.

    References: He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 3.4, with crops in place of a fully convolutional form.
    """
    return tuple(view for short_px in RESNET_PX for view in ten_crops(short_px))


def box_of(view: View, preprocess: Preprocess, height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a view in an image, whole pixels.

    The box has the input's aspect; where the preprocessing ignores it (``squash``), that of the image. Corners are those of the image;
    where the preprocessing adds black beside it (``fill``, ``half_crop``), those of the image with it.
    """
    if not view.short_px:
        return crop_box(preprocess, height, width)
    share = NETWORK_PX / view.short_px
    whole = (0, 0, height, width)
    if preprocess.resize == "squash":
        tall, wide = max(1, round(height * share)), max(1, round(width * share))
    else:
        top, left, bottom, right = crop_box(dataclasses.replace(preprocess, crop_fraction=share), height, width)
        tall, wide = bottom - top, right - left
        if preprocess.resize != "crop":
            whole = crop_box(dataclasses.replace(preprocess, crop_fraction=1.0), height, width)
    top = whole[0] + round((whole[2] - whole[0] - tall) * view.row)
    left = whole[1] + round((whole[3] - whole[1] - wide) * view.column)
    return top, left, top + tall, left + wide

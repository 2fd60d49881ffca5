"""From a decoded image to what the network reads: one definition, shared by training, prediction and every exported file.

The resize is Pillow's bilinear filter with its own 8-bit fixed-point sums. Those are integers, so an exported graph that
multiplies by the same integer weights gives the same bits; the Resize operator of ONNX does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convsmith.errors import UsageError
from convsmith.kernels.resampling import resample

ResizeMode = Literal["squash", "crop", "fill", "half_crop"]


@dataclass(frozen=True)
class Preprocess:
    """Resize, channels and normalisation of one network.

    ``height``, ``width``: the network's input in pixels. ``channels``: 1 (grey) or 3 (RGB).
    ``resize``: ``squash`` ignores the aspect; ``crop`` takes the largest centred box of the input's aspect, ``fill`` the smallest one
    that holds the whole image, with black beside it, ``half_crop`` the one half way between; ``crop_fraction`` shrinks the box.
    ``mean``, ``std``: per channel, on the scale 0..1.
    """

    height: int
    width: int
    channels: int = 3
    resize: ResizeMode = "crop"
    crop_fraction: float = 1.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UsageError(f"channels is {self.channels}; allowed are 1 (grey) and 3 (RGB)")
        if not (len(self.mean) == len(self.std) == self.channels):
            raise UsageError(f"mean and std need {self.channels} numbers, got {len(self.mean)} and {len(self.std)}")
        if self.height < 1 or self.width < 1 or not 0 < self.crop_fraction <= 1:
            raise UsageError(f"input {self.height}x{self.width} with crop fraction {self.crop_fraction} is empty")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocess:
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        return cls(**plain)


def crop_box(preprocess: Preprocess, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the source rows and columns that are scaled: ``(top, left, bottom, right)`` in whole pixels.

    ``squash`` keeps all. ``crop`` keeps the largest centred box of the input's aspect, times ``crop_fraction``; that of ``fill`` and
    ``half_crop`` may reach beyond the image, where it is black (``framed``). Integer arithmetic on the sizes, so that an exported graph
    computes the same box. Never less than one pixel.
    """
    if preprocess.resize == "squash":
        return 0, 0, height, width
    top, bottom = _side(preprocess, height, width, preprocess.height, preprocess.width)
    left, right = _side(preprocess, width, height, preprocess.width, preprocess.height)
    return top, left, bottom, right


def _side(preprocess: Preprocess, size: int, other: int, wanted: int, other_wanted: int) -> tuple[int, int]:
    """Return where the box begins and ends along one axis of an image; ``other`` is the image's size along the other axis."""
    # in thousandths, to stay in integers: box side = side * fraction, or as the aspect of the input wants it
    fraction = round(preprocess.crop_fraction * 1000)
    own, by_aspect = size * fraction // 1000, other * wanted * fraction // (other_wanted * 1000)
    inside, around = max(1, min(own, by_aspect)), max(1, own, by_aspect)
    side = {"crop": inside, "fill": around, "half_crop": (inside + around) // 2}[preprocess.resize]
    # whole pixels on both sides, the odd one behind: counted from zero up, as every runtime divides integers alike there
    start = (size - side) // 2 if side <= size else -((side - size) // 2)
    return start, start + side


def framed(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """Return an image that holds the whole box, black where that reaches beyond the one given, and where the box lies in it."""
    top, left, bottom, right = box
    height, width = image.shape[:2]
    above, before = max(0, -top), max(0, -left)
    below, behind = max(0, bottom - height), max(0, right - width)
    if not (above or before or below or behind):
        return image, box
    wide = np.zeros((above + height + below, before + width + behind, image.shape[2]), np.uint8)
    wide[above : above + height, before : before + width] = image
    return wide, (top + above, left + before, bottom + above, right + before)


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return uint8 ``(h, w, channels)``: grey repeated to RGB, or RGB weighed to grey (ITU-R 601, as Pillow's ``L``)."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def resize(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return the network's view of one decoded image: uint8 ``(height, width, channels)``.

    The box is cut first and then scaled, so pixels outside it have no influence.
    """
    image = to_channels(image, preprocess.channels)
    image, (top, left, bottom, right) = framed(image, crop_box(preprocess, image.shape[0], image.shape[1]))
    image = image[top:bottom, left:right]
    if image.shape[:2] == (preprocess.height, preprocess.width):
        return np.ascontiguousarray(image)
    picture = Image.fromarray(image[:, :, 0] if preprocess.channels == 1 else image)
    # one axis at a time, columns first: Pillow 13 began to choose the order by the sizes, which changes the rounding
    for size in ((preprocess.width, picture.height), (preprocess.width, preprocess.height)):
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    scaled = np.asarray(picture)
    return scaled[:, :, None] if preprocess.channels == 1 else scaled


def normalise(x_nhwc: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Return float32 NCHW: ``(x / 255 - mean) / std`` as one multiply and one add per channel, in that order."""
    scale, shift = affine(preprocess)
    return np.ascontiguousarray((x_nhwc.astype(np.float32) * scale + shift).transpose(0, 3, 1, 2))


def prepare(images: Sequence[NDArray[np.uint8]], preprocess: Preprocess, *, threads: int = 1) -> NDArray[np.float32]:
    """Return what the network reads of images of any sizes, float32 NCHW: ``normalise`` of ``resize`` bit for bit, by the native kernel.

    Shapes: images uint8 ``(h, w, 1 or 3)``.
    """
    p = preprocess
    held = [framed(to_channels(image, p.channels), crop_box(p, image.shape[0], image.shape[1])) for image in images]
    shown = [np.ascontiguousarray(image) for image, _ in held]
    boxes = np.array([box for _, box in held], np.int32).reshape(-1, 4)
    out = np.empty((len(shown), p.channels, p.height, p.width), np.float32)
    resample(shown, boxes, np.zeros(len(shown), np.bool_), out, affine(p), threads=threads)
    return out


def affine(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``scale, shift`` per channel such that the network reads ``pixel * scale + shift``."""
    mean, std = np.asarray(preprocess.mean, np.float64), np.asarray(preprocess.std, np.float64)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

"""The order of the changes, from stored uint8 images to the normalised input of one epoch."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from convsmith.data.images import EncodedSplit
from convsmith.data.pipeline import Cut
from convsmith.data.preprocess import Preprocess, affine, crop_box
from convsmith.training.augmentation import colour, corruption, draws, geometry, policies
from convsmith.training.chance import uniforms
from convsmith.training.config import Augment

#: ResNet's protocol reads 224 of at least 256 pixels (He et al. 2015, arXiv:1512.03385, section 3.4).
STORED: Final = 256 / 224


def stored_preprocess(preprocess: Preprocess, augment: Augment) -> Preprocess:
    """Return the size at which training images are kept: that of the network, or 8/7 of it where random parts of them are read."""
    if augment.crop == "none":
        return preprocess
    return dataclasses.replace(preprocess, height=round(preprocess.height * STORED), width=round(preprocess.width * STORED))


def to_input(x_nhwc: torch.Tensor, preprocess: Preprocess, channels_last: bool = False) -> torch.Tensor:
    """Return float32 NCHW ``pixel * scale + shift`` of uint8 NHWC."""
    scale, shift = (torch.from_numpy(a).to(x_nhwc.device) for a in affine(preprocess))
    x_nchw = torch.addcmul(shift, x_nhwc.float(), scale).permute(0, 3, 1, 2)
    return x_nchw.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def cutter(split: EncodedSplit, preprocess: Preprocess, augment: Augment, seed: int, epoch: int) -> Cut | None:
    """Return which box of each picture ``epoch`` reads and whether it is mirrored; None where that is not all of the geometry."""
    if not geometry.crops_alone(augment):
        return None

    def cut(indices: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        u = torch.from_numpy(uniforms(indices, draws.count(augment), seed, epoch)).float()
        regions = np.array([crop_box(preprocess, *map(int, split.extents[index])) for index in indices], np.int32).reshape(-1, 4)
        return geometry.crop_boxes(augment, u, regions), geometry.mirrored(augment, u, indices, seed, epoch).numpy()

    return cut


def augmented(
    x_nhwc: torch.Tensor,
    indices: NDArray[np.int64],
    augment: Augment,
    preprocess: Preprocess,
    *,
    seed: int,
    epoch: int,
    channels_last: bool = False,
    axes: torch.Tensor | None = None,
    placed: bool = False,
) -> torch.Tensor:
    """Return the batch as the network reads it in ``epoch``, float32 NCHW, each image changed as ``augment`` says.

    In this order: policy, JPEG, geometry, colour, blur, noise, erasing. Mirroring and whole-pixel shifts move pixels and keep their values;
    all other geometry is one bilinear interpolation. Pixels from outside repeat the edge. Colour is not cut off at black and white.
    The result of an image depends on (seed, epoch, index) alone. ``axes``: those of ``colour_axes``, for ``lighting``.
    ``placed``: the images were cut, scaled and mirrored as ``cutter`` says, so that no geometry remains.

    Shapes: ``x_nhwc`` uint8, of the size of ``stored_preprocess``; the result has the height and width of ``preprocess``.
    """
    if augment == Augment():
        return to_input(x_nhwc, preprocess, channels_last)
    u = torch.from_numpy(uniforms(indices, draws.count(augment), seed, epoch)).to(x_nhwc.device, torch.float32)
    mirror = geometry.mirrored(augment, u, indices, seed, epoch)
    if augment.policy != "none":
        x_nhwc = policies.changed(x_nhwc, augment, u[:, draws.POLICY])
    if augment.jpeg:
        x_nhwc = corruption.compressed(x_nhwc, augment.jpeg, u[:, draws.JPEG])
    warped = geometry.interpolates(augment) and not placed
    if not warped and not placed:
        x_nhwc = geometry.moved(x_nhwc, augment, u, mirror)
    x_nchw = to_input(x_nhwc, preprocess, channels_last)
    if warped:
        x_nchw = geometry.warped(x_nchw, augment, u, mirror, (preprocess.height, preprocess.width))
    if augment.light:
        x_nchw = colour.lit(x_nchw, augment.light, u)
    if preprocess.channels == 3 and (augment.saturation or augment.hue or augment.lighting):
        x_nchw = colour.coloured(x_nchw, augment, u, preprocess, axes)
    if augment.blur:
        x_nchw = corruption.blurred(x_nchw, augment.blur * u[:, draws.BLUR], augment.blur)
    if augment.noise:
        x_nchw = corruption.noisy(x_nchw, augment.noise * u[:, draws.NOISE], preprocess, indices, seed, epoch)
    if augment.erase:
        x_nchw = corruption.erased(x_nchw, augment.erase, u)
    return x_nchw

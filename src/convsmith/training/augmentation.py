"""From a batch of stored pixels to what the network reads: random changes and normalisation, as operations on the whole batch."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess, affine
from convsmith.training.chance import uniforms
from convsmith.training.config import Augment


def to_input(x_nhwc: torch.Tensor, preprocess: Preprocess, channels_last: bool = False) -> torch.Tensor:
    """Return float32 NCHW ``pixel * scale + shift`` of uint8 NHWC."""
    scale, shift = (torch.from_numpy(a).to(x_nhwc.device) for a in affine(preprocess))
    x_nchw = torch.addcmul(shift, x_nhwc.float(), scale).permute(0, 3, 1, 2)
    return x_nchw.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def augmented(
    x_nhwc: torch.Tensor,
    indices: NDArray[np.int64],
    augment: Augment,
    preprocess: Preprocess,
    *,
    seed: int,
    epoch: int,
    channels_last: bool = False,
) -> torch.Tensor:
    """Return the batch as the network reads it in ``epoch``, float32 NCHW, each image changed as ``augment`` says.

    Mirroring and whole-pixel shifts move pixels and keep their values; rotation, scale and shear interpolate bilinearly. Pixels from
    outside repeat the edge.
    """
    if augment == Augment():
        return to_input(x_nhwc, preprocess, channels_last)
    u = torch.from_numpy(uniforms(indices, 10, seed, epoch)).to(x_nhwc.device, torch.float32)
    warped = bool(augment.rotate or augment.scale or augment.shear)
    if not warped and (augment.flip or augment.shift):
        x_nhwc = _moved(x_nhwc, augment, u)
    x_nchw = to_input(x_nhwc, preprocess, channels_last)
    if warped:
        x_nchw = _warped(x_nchw, augment, u)
    if augment.light:
        x_nchw = _lit(x_nchw, augment.light, u)
    if augment.erase:
        x_nchw = _erased(x_nchw, augment.erase, u)
    return x_nchw


def _moved(x_nhwc: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    n, height, width, channels = x_nhwc.shape
    dy, dx = _pixels(augment.shift, height, u[:, 1]), _pixels(augment.shift, width, u[:, 2])
    rows = (torch.arange(height, device=u.device)[None, :] + dy[:, None]).clamp_(0, height - 1)
    columns = torch.arange(width, device=u.device)[None, :].expand(n, width)
    if augment.flip:
        columns = torch.where(u[:, :1] < 0.5, columns, width - 1 - columns)
    columns = (columns + dx[:, None]).clamp_(0, width - 1)
    images = torch.arange(n, device=u.device)[:, None, None] * (height * width)
    places = images + (rows * width)[:, :, None] + columns[:, None, :]
    return x_nhwc.reshape(-1, channels).index_select(0, places.reshape(-1)).reshape(x_nhwc.shape)


def _pixels(part: float, side: int, u: torch.Tensor) -> torch.Tensor:
    reach = round(part * side)
    return (u * (2 * reach + 1)).floor().long() - reach


def _warped(x_nchw: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    """Rotate, scale, shear, shift and mirror in one bilinear interpolation, about the centre, keeping right angles in non-square images."""
    height, width = x_nchw.shape[2:]
    angle = (2 * u[:, 3] - 1) * math.radians(augment.rotate)
    zoom = 1 / (1 + (2 * u[:, 4] - 1) * augment.scale)
    shear = (2 * u[:, 5] - 1) * augment.shear
    mirror = torch.where(u[:, 0] < 0.5, 1.0, -1.0) if augment.flip else torch.ones_like(angle)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    aspect = height / width
    theta = torch.zeros(len(u), 2, 3, device=u.device)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * cos, (shear * cos - sin) * aspect * mirror
    theta[:, 1, 0], theta[:, 1, 1] = sin / aspect, shear * sin + cos
    theta[:, 0, 2] = (2 * u[:, 2] - 1) * 2 * augment.shift
    theta[:, 1, 2] = (2 * u[:, 1] - 1) * 2 * augment.shift
    layout = torch.channels_last if x_nchw.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    grid = F.affine_grid(theta, list(x_nchw.shape), align_corners=False)
    return F.grid_sample(x_nchw, grid, padding_mode="border", align_corners=False).contiguous(memory_format=layout)


def _lit(x_nchw: torch.Tensor, light: float, u: torch.Tensor) -> torch.Tensor:
    """Change contrast about each image's own mean, then brightness in units of the normalised scale."""
    contrast = (1 + (2 * u[:, 6] - 1) * light)[:, None, None, None]
    brightness = ((2 * u[:, 7] - 1) * light)[:, None, None, None]
    mean = x_nchw.mean((1, 2, 3), keepdim=True)
    return (x_nchw - mean) * contrast + (mean + brightness)


def _erased(x_nchw: torch.Tensor, part: float, u: torch.Tensor) -> torch.Tensor:
    """Set one square of each image to 0, the mean colour after normalisation (DeVries, Taylor 2017, arXiv:1708.04552)."""
    height, width = x_nchw.shape[2:]
    tall, wide = max(1, round(part * height)), max(1, round(part * width))
    top = (u[:, 8] * (height - tall + 1)).floor().long()[:, None]
    left = (u[:, 9] * (width - wide + 1)).floor().long()[:, None]
    y, x = torch.arange(height, device=u.device)[None, :], torch.arange(width, device=u.device)[None, :]
    inside = ((y >= top) & (y < top + tall))[:, :, None] & ((x >= left) & (x < left + wide))[:, None, :]
    return x_nchw.masked_fill(inside[:, None], 0.0)

"""Changes of colour, each one linear map of the three channels of an image."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from convsmith.data.preprocess import Preprocess
from convsmith.training.augmentation import draws
from convsmith.training.augmentation.geometry import spread
from convsmith.training.config import Augment

#: Weights of red, green and blue in a grey picture: ITU-R BT.601.
LUMA: Final = (0.299, 0.587, 0.114)
#: RGB to YIQ (NTSC 1953); the hue is an angle in the IQ plane.
YIQ: Final = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
SAMPLE: Final = 1 << 20


def lit(x_nchw: torch.Tensor, light: float, u: torch.Tensor) -> torch.Tensor:
    """Change contrast about each image's own mean, then brightness in units of the normalised scale."""
    contrast = (1 + spread(u, draws.CONTRAST) * light)[:, None, None, None]
    brightness = (spread(u, draws.BRIGHTNESS) * light)[:, None, None, None]
    mean = x_nchw.mean((1, 2, 3), keepdim=True)
    return (x_nchw - mean) * contrast + (mean + brightness)


def coloured(x_nchw: torch.Tensor, augment: Augment, u: torch.Tensor, preprocess: Preprocess, axes: torch.Tensor | None) -> torch.Tensor:
    """Change saturation and hue, then add PCA lighting, as one 3x3 map and one offset for each image, on the scale 0 to 1.

    Raises: ValueError when ``lighting`` is asked for without ``axes``.
    """
    maps = torch.matmul(hue_maps(spread(u, draws.HUE) * augment.hue), saturation_maps(1 + spread(u, draws.SATURATION) * augment.saturation))
    std = torch.tensor(preprocess.std, device=x_nchw.device)
    mean = torch.tensor(preprocess.mean, device=x_nchw.device)
    # y std + mean = map (x std + mean) + light
    scaled = maps * std[None, None, :] / std[None, :, None]
    offset = torch.matmul(maps, mean) - mean
    if augment.lighting:
        if axes is None:
            raise ValueError("lighting needs the colour axes of the training images: pass axes=colour_axes(x_nhwc)")
        normal = torch.special.ndtri(u[:, draws.LIGHTING].clamp(1e-6, 1 - 1e-6))
        offset = offset + augment.lighting * normal @ axes.to(x_nchw.device, x_nchw.dtype)
    # channel by channel, so that an image's result does not depend on the batch around it
    changed = (offset / std)[:, :, None, None] + sum(scaled[:, :, c, None, None] * x_nchw[:, c, None] for c in range(3))
    layout = torch.channels_last if x_nchw.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return changed.contiguous(memory_format=layout)


def saturation_maps(factors: torch.Tensor) -> torch.Tensor:
    """Return 3x3 maps that blend each colour with its grey: factor 0 is grey, 1 the colour, 2 twice its distance from grey."""
    grey = torch.tensor(LUMA, device=factors.device).expand(3, 3)
    return grey + factors[:, None, None] * (torch.eye(3, device=factors.device) - grey)


def hue_maps(degrees: torch.Tensor) -> torch.Tensor:
    """Return 3x3 maps that turn the hue: a rotation of I and Q, which keeps luma and saturation."""
    yiq = torch.tensor(YIQ, device=degrees.device, dtype=torch.float64)
    angle = degrees.double() * (math.pi / 180)
    turn = torch.zeros(len(degrees), 3, 3, device=degrees.device, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2] = angle.cos(), -angle.sin()
    turn[:, 2, 1], turn[:, 2, 2] = angle.sin(), angle.cos()
    maps: torch.Tensor = torch.linalg.inv(yiq) @ turn @ yiq
    return maps.to(degrees.dtype)


def colour_axes(x_nhwc: NDArray[np.uint8]) -> torch.Tensor:
    """Return the principal axes of the pixels' colours, each times the standard deviation along it, float32 ``(3, 3)``, one axis a row.

    PCA lighting adds ``sum_i alpha_i axis_i`` to an image, alpha normal (Krizhevsky et al. 2012, section 4.1). The paper multiplies by the
    variances, whose meaning changes with the scale of the pixels; standard deviations do not. At most about a million evenly spread pixels
    are read.
    """
    pixels = x_nhwc.reshape(-1, x_nhwc.shape[-1])
    sample = pixels[:: max(1, len(pixels) // SAMPLE)].astype(np.float64) / 255
    variances, vectors = np.linalg.eigh(np.cov(sample.T))
    return torch.from_numpy((vectors * np.sqrt(np.maximum(variances, 0))).T.astype(np.float32))

"""What cameras, files and fingers do to a picture: blur, noise, JPEG, a covered part."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from convsmith.data.preprocess import Preprocess
from convsmith.training.augmentation import draws
from convsmith.training.chance import key, mix


def blurred(x_nchw: torch.Tensor, sigmas: torch.Tensor, largest: float) -> torch.Tensor:
    """Blur each image with its own Gaussian, cut off at three times the largest standard deviation; edge pixels are repeated.

    Tap by tap, so that an image's result does not depend on the batch around it. Units: ``sigmas`` ``(n,)`` and ``largest`` in pixels.
    """
    reach = max(1, math.ceil(3 * largest))
    offsets = torch.arange(-reach, reach + 1, device=x_nchw.device)
    kernels = torch.exp(-0.5 * (offsets / sigmas.clamp(min=1e-3)[:, None]).square())
    kernels = (kernels / kernels.sum(1, keepdim=True))[:, :, None, None, None]
    height, width = x_nchw.shape[2:]
    padded = F.pad(x_nchw, (0, 0, reach, reach), mode="replicate")
    tall = sum((kernels[:, t] * padded[:, :, t : t + height] for t in range(2 * reach + 1)), torch.zeros_like(x_nchw))
    padded = F.pad(tall, (reach, reach, 0, 0), mode="replicate")
    return sum((kernels[:, t] * padded[..., t : t + width] for t in range(2 * reach + 1)), torch.zeros_like(x_nchw))


def noisy(
    x_nchw: torch.Tensor, deviations: torch.Tensor, preprocess: Preprocess, indices: NDArray[np.int64], seed: int, epoch: int
) -> torch.Tensor:
    """Add normal noise of its own standard deviation, as a part of full scale, to each image; a number for every pixel and channel."""
    n, channels, height, width = x_nchw.shape
    images = mix(indices.astype(np.uint64) ^ key(6, seed, epoch))
    grid = mix(images[:, None] ^ mix(np.arange(channels * height * width, dtype=np.uint64))[None, :])
    u = torch.from_numpy(((grid >> np.uint64(40)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)).to(x_nchw.device)
    normal = torch.special.ndtri(u).reshape(n, channels, height, width)
    std = torch.tensor(preprocess.std, device=x_nchw.device)
    added: torch.Tensor = normal * (deviations[:, None] / std[None, :])[:, :, None, None]
    return x_nchw + added


def compressed(x_nhwc: torch.Tensor, lowest: int, u: torch.Tensor) -> torch.Tensor:
    """Write and read each image as a JPEG file of a quality from ``lowest`` to 100."""
    out = x_nhwc.cpu().numpy().copy()
    for image, quality in zip(out, (lowest + u * (101 - lowest)).floor().clamp(1, 100).int().tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
        found = np.asarray(Image.open(buffer))
        image[...] = found[:, :, None] if found.ndim == 2 else found
    return torch.from_numpy(out).to(x_nhwc.device)


def erased(x_nchw: torch.Tensor, part: float, u: torch.Tensor) -> torch.Tensor:
    """Set one square of each image to 0, the mean colour after normalisation (DeVries, Taylor 2017, arXiv:1708.04552)."""
    height, width = x_nchw.shape[2:]
    tall, wide = max(1, round(part * height)), max(1, round(part * width))
    top = (u[:, draws.ERASE_Y] * (height - tall + 1)).floor().long()[:, None]
    left = (u[:, draws.ERASE_X] * (width - wide + 1)).floor().long()[:, None]
    y, x = torch.arange(height, device=u.device)[None, :], torch.arange(width, device=u.device)[None, :]
    inside = ((y >= top) & (y < top + tall))[:, :, None] & ((x >= left) & (x < left + wide))[:, None, :]
    return x_nchw.masked_fill(inside[:, None], 0.0)

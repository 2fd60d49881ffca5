"""Mixup and cutmix: two images and their labels become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convsmith.training.chance import key, uniforms
from convsmith.training.config import Augment


@dataclass(frozen=True)
class Mixture:
    """Whose label also counts: image ``i`` is itself by ``share`` and image ``partner[i]`` of the batch by the rest.

    Shapes: ``partner`` int64 ``(n,)``; ``share`` one number for the whole batch, 0 to 1.
    """

    partner: torch.Tensor
    share: float


def mixed(
    x_nchw: torch.Tensor, indices: NDArray[np.int64], augment: Augment, *, seed: int, epoch: int
) -> tuple[torch.Tensor, Mixture | None]:
    """Blend each image with another of the batch, or paste a box of it; with both switched on, a fair coin for the batch decides.

    What is drawn depends on (seed, epoch, the batch's images), in any number of worker processes.
    References: Zhang et al. 2017, arXiv:1710.09412 (mixup); Yun et al. 2019, arXiv:1905.04899 (cutmix).
    """
    if not (augment.mixup or augment.cutmix) or len(indices) < 2:
        return x_nchw, None
    partner = torch.from_numpy(_partners(indices, seed, epoch)).to(x_nchw.device)
    chance = np.random.Generator(np.random.Philox(key=int(key(7, seed, epoch, *map(int, indices[:2])))))
    pastes = augment.cutmix > 0 and (augment.mixup == 0 or chance.random() < 0.5)
    alpha = augment.cutmix if pastes else augment.mixup
    share = float(chance.beta(alpha, alpha))
    if not pastes:
        return torch.lerp(x_nchw[partner], x_nchw, share), Mixture(partner, share)
    top, left, bottom, right = _box(share, x_nchw.shape[2], x_nchw.shape[3], *chance.random(2))
    out = x_nchw.clone()
    out[:, :, top:bottom, left:right] = x_nchw[partner][:, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (x_nchw.shape[2] * x_nchw.shape[3])
    return out, Mixture(partner, kept)


def _partners(indices: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return for every image the next one on a random ring through the batch, never itself."""
    ring = np.argsort(uniforms(indices, 1, seed ^ 0x6D6978, epoch)[:, 0], kind="stable")
    partner = np.empty(len(indices), np.int64)
    partner[ring] = np.roll(ring, -1)
    return partner


def _box(share: float, height: int, width: int, y: float, x: float) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a box of ``1 - share`` of the area about a random centre, cut at the edges."""
    side = (1 - share) ** 0.5
    tall, wide = round(height * side), round(width * side)
    top, left = int(y * height) - tall // 2, int(x * width) - wide // 2
    return max(0, top), max(0, left), min(height, top + tall), min(width, left + wide)

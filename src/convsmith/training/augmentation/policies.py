"""RandAugment and TrivialAugment: operations of the AutoAugment family, drawn for each image, on uint8 values as Pillow has them.

References: Cubuk et al. 2019, arXiv:1909.13719 (RandAugment); Müller, Hutter 2021, arXiv:2103.10158 (TrivialAugment, its wide ranges).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F

from convsmith.training.augmentation.colour import LUMA
from convsmith.training.config import Augment

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
STRONGEST: Final = 30
COLUMNS: Final = 3


def changed(x_nhwc: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    """Return uint8 images after the operations that were drawn for each.

    Shapes: ``u`` uniform numbers ``(n, 12)``, three for each of at most four operations.
    """
    count = augment.policy_operations if augment.policy == "rand" else 1
    x = x_nhwc.permute(0, 3, 1, 2).float()
    for place in range(count):
        which, strength, sign = u[:, COLUMNS * place : COLUMNS * (place + 1)].unbind(1)
        if augment.policy == "rand":
            strength = torch.full_like(strength, augment.policy_strength / STRONGEST)
        else:
            strength = (strength * (STRONGEST + 1)).floor() / STRONGEST
        x = _apply(x, (which * len(OPERATIONS)).long(), strength, torch.where(sign < 0.5, -1.0, 1.0), wide=augment.policy == "trivial")
    return x.round().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _apply(x: torch.Tensor, which: torch.Tensor, strength: torch.Tensor, sign: torch.Tensor, wide: bool) -> torch.Tensor:
    out = x.clone()
    for number, (operation, ordinary, widest, signed) in enumerate(OPERATIONS.values()):
        chosen = torch.nonzero(which == number)[:, 0]
        if len(chosen):
            amount = strength[chosen] * (widest if wide else ordinary) * (sign[chosen] if signed else 1.0)
            out[chosen] = operation(x[chosen], amount)
    return out


def identity(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Return the images as they are."""
    return x


def brightness(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Blend with black: factor ``1 + amount``."""
    return _blend(torch.zeros_like(x), x, amount)


def contrast(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Blend with the mean grey level, rounded to a whole one."""
    return _blend(_grey(x).mean((1, 2, 3), keepdim=True).add(0.5).floor(), x, amount)


def colour(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Blend with the grey picture; grey images stay."""
    return _blend(_grey(x), x, amount)


def sharpness(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Blend with a smoothed picture: 3x3 weights 1 and 5 in the middle, over 13; the border stays."""
    kernel = torch.ones(1, 1, 3, 3, device=x.device) / 13
    kernel[..., 1, 1] = 5 / 13
    smooth = x.clone()
    if min(x.shape[2:]) > 2:
        flat = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), kernel).reshape(*x.shape[:2], x.shape[2] - 2, x.shape[3] - 2)
        smooth[:, :, 1:-1, 1:-1] = flat.add(0.5).floor()
    return _blend(smooth, x, amount)


def posterize(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Keep the top ``8 - round(amount)`` bits of each value."""
    step = torch.exp2(amount.round())[:, None, None, None]
    return (x / step).floor() * step


def solarize(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Invert the values of at least ``255 - amount``."""
    return torch.where(x >= 255 - amount[:, None, None, None], 255 - x, x)


def autocontrast(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Stretch each channel to 0 to 255; a channel of one value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scale = 255 / (high - low).clamp(min=1)
    return torch.where(high > low, ((x - low) * scale).floor().clamp(0, 255), x)


def equalize(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Flatten the histogram of each channel as Pillow does: steps of ``(pixels - those of the brightest level) // 255``."""
    n, channels, height, width = x.shape
    levels = x.long().reshape(n * channels, -1)
    counts = torch.zeros(n * channels, 256, dtype=torch.long, device=x.device).scatter_add_(1, levels, torch.ones_like(levels))
    brightest = torch.where(counts > 0, torch.arange(256, device=x.device), 0).amax(1, keepdim=True)
    step = (height * width - counts.gather(1, brightest)) // 255
    before = counts.cumsum(1) - counts
    table = torch.div(before + step // 2, step.clamp(min=1), rounding_mode="floor").clamp(max=255)
    flat = torch.where(step > 0, table.gather(1, levels), levels)
    return flat.reshape(x.shape).to(x.dtype)


def shear_x(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Slant rows: pixels of move per pixel of height."""
    return _sampled(x, amount, lambda theta, a: _set(theta, 0, 1, a * x.shape[2] / x.shape[3]))


def shear_y(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Slant columns."""
    return _sampled(x, amount, lambda theta, a: _set(theta, 1, 0, a * x.shape[3] / x.shape[2]))


def translate_x(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Move sideways by a part of the width."""
    return _sampled(x, amount, lambda theta, a: _set(theta, 0, 2, 2 * a))


def translate_y(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Move up or down by a part of the height."""
    return _sampled(x, amount, lambda theta, a: _set(theta, 1, 2, 2 * a))


def rotate(x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Turn about the centre, in degrees."""
    aspect = x.shape[2] / x.shape[3]

    def turn(theta: torch.Tensor, degrees: torch.Tensor) -> None:
        cos, sin = torch.cos(degrees * (math.pi / 180)), torch.sin(degrees * (math.pi / 180))
        theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1, 1] = cos, -sin * aspect, sin / aspect, cos

    return _sampled(x, amount, turn)


def _set(theta: torch.Tensor, row: int, column: int, value: torch.Tensor) -> None:
    theta[:, row, column] = value


def _sampled(x: torch.Tensor, amount: torch.Tensor, place: Callable[[torch.Tensor, torch.Tensor], None]) -> torch.Tensor:
    """Read the images through an affine map, bilinearly; edge pixels are repeated."""
    theta = torch.eye(2, 3, device=x.device).repeat(len(x), 1, 1)
    place(theta, amount)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border", align_corners=False)


def _blend(other: torch.Tensor, x: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Return ``other + (1 + amount) (x - other)``, cut off at 0 and 255."""
    return (other + (1 + amount)[:, None, None, None] * (x - other)).clamp(0, 255).floor()


def _grey(x: torch.Tensor) -> torch.Tensor:
    """Return the grey picture in whole levels, one channel."""
    if x.shape[1] == 1:
        return x
    return torch.einsum("nchw,c->nhw", x, torch.tensor(LUMA, device=x.device))[:, None].add(0.5).floor()


#: Operation, its amount at full strength (RandAugment, TrivialAugment), and whether the sign is drawn.
OPERATIONS: Final[dict[str, tuple[Change, float, float, bool]]] = {
    "identity": (identity, 0, 0, False),
    "shear_x": (shear_x, 0.3, 0.99, True),
    "shear_y": (shear_y, 0.3, 0.99, True),
    "translate_x": (translate_x, 150 / 331, 32 / 224, True),
    "translate_y": (translate_y, 150 / 331, 32 / 224, True),
    "rotate": (rotate, 30, 135, True),
    "brightness": (brightness, 0.9, 0.99, True),
    "colour": (colour, 0.9, 0.99, True),
    "contrast": (contrast, 0.9, 0.99, True),
    "sharpness": (sharpness, 0.9, 0.99, True),
    "posterize": (posterize, 4, 6, False),
    "solarize": (solarize, 255, 255, False),
    "autocontrast": (autocontrast, 0, 0, False),
    "equalize": (equalize, 0, 0, False),
}

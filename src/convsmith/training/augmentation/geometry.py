"""Where pixels come from: mirroring and shifts exactly, everything else as one bilinear interpolation."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from convsmith.training.augmentation import draws
from convsmith.training.chance import key, mix
from convsmith.training.config import Augment

CONTROL_POINTS: Final = 8


def interpolates(augment: Augment) -> bool:
    """Tell whether any change needs pixels between pixels."""
    a = augment
    return bool(a.crop != "none" or a.rotate or a.scale or a.stretch or a.shear or a.perspective or a.lens or a.elastic)


def mirrored(augment: Augment, u: torch.Tensor, indices: NDArray[np.int64], seed: int, epoch: int) -> torch.Tensor:
    """Return which images are mirrored left and right, bool ``(n,)``.

    ``alternate`` draws for the first epoch and then turns each image in every epoch, so that two epochs show both sides of all of them
    (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    if augment.flip == "alternate":
        first = (mix(indices.astype(np.uint64) ^ key(5, seed)) & np.uint64(1)).astype(bool)
        return torch.from_numpy(first ^ bool(epoch % 2)).to(u.device)
    return u[:, draws.MIRROR] >= 0.5 if augment.flip else torch.zeros(len(u), dtype=torch.bool, device=u.device)


def moved(x_nhwc: torch.Tensor, augment: Augment, u: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
    """Mirror and shift by whole pixels."""
    if not (augment.flip or augment.flip_vertical or augment.shift):
        return x_nhwc
    n, height, width, channels = x_nhwc.shape
    dy, dx = _pixels(augment.shift, height, u[:, draws.SHIFT_Y]), _pixels(augment.shift, width, u[:, draws.SHIFT_X])
    rows = torch.arange(height, device=u.device)[None, :].expand(n, height)
    if augment.flip_vertical:
        rows = torch.where(u[:, draws.MIRROR_VERTICAL, None] < 0.5, rows, height - 1 - rows)
    rows = (rows + dy[:, None]).clamp_(0, height - 1)
    columns = torch.arange(width, device=u.device)[None, :].expand(n, width)
    columns = torch.where(mirror[:, None], width - 1 - columns, columns)
    columns = (columns + dx[:, None]).clamp_(0, width - 1)
    images = torch.arange(n, device=u.device)[:, None, None] * (height * width)
    places = images + (rows * width)[:, :, None] + columns[:, None, :]
    return x_nhwc.reshape(-1, channels).index_select(0, places.reshape(-1)).reshape(x_nhwc.shape)


def _pixels(part: float, side: int, u: torch.Tensor) -> torch.Tensor:
    reach = round(part * side)
    return (u * (2 * reach + 1)).floor().long() - reach


def warped(x_nchw: torch.Tensor, augment: Augment, u: torch.Tensor, mirror: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the images of ``size`` (height, width) read through one bilinear interpolation of ``x_nchw``."""
    layout = torch.channels_last if x_nchw.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    theta = affine_maps(augment, u, mirror, size[0] / size[1])
    shape = [len(x_nchw), x_nchw.shape[1], *size]
    if not (augment.perspective or augment.lens or augment.elastic):
        grid = F.affine_grid(theta, shape, align_corners=False)
    else:
        identity = torch.eye(2, 3, device=u.device).expand(len(u), 2, 3)
        grid = distorted(F.affine_grid(identity, shape, align_corners=False), augment, u)
        grid = torch.einsum("nhwc,nkc->nhwk", grid, theta[:, :, :2]) + theta[:, None, None, :, 2]
    return F.grid_sample(x_nchw, grid, padding_mode="border", align_corners=False).contiguous(memory_format=layout)


def affine_maps(augment: Augment, u: torch.Tensor, mirror: torch.Tensor, aspect: float) -> torch.Tensor:
    """Return where each point of the result is read, as 2x3 matrices on coordinates from -1 to 1, about the centre.

    Right angles stay right in images that are not square; ``aspect`` is height / width. The random part of ``crop`` comes last.
    """
    angle = spread(u, draws.ROTATE) * math.radians(augment.rotate)
    zoom = 1 / (1 + spread(u, draws.SCALE) * augment.scale)
    wider = 1 / (1 + spread(u, draws.STRETCH) * augment.stretch) if augment.stretch else torch.ones_like(angle)
    shear = spread(u, draws.SHEAR) * augment.shear
    sign = torch.where(mirror, -1.0, 1.0) * wider
    upside = torch.where(u[:, draws.MIRROR_VERTICAL] < 0.5, 1.0, -1.0) if augment.flip_vertical else torch.ones_like(angle)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.zeros(len(u), 2, 3, device=u.device)
    theta[:, 0, 0], theta[:, 0, 1] = sign * cos, (shear * cos - sin) * aspect * sign
    theta[:, 1, 0], theta[:, 1, 1] = upside * sin / aspect, upside * (shear * sin + cos)
    theta[:, 0, 2] = spread(u, draws.SHIFT_X) * 2 * augment.shift
    theta[:, 1, 2] = spread(u, draws.SHIFT_Y) * 2 * augment.shift
    if augment.crop != "none":
        tall, wide = crop_sides(augment, u)
        theta = theta * torch.stack([wide, tall], 1)[:, :, None]
        theta[:, 0, 2] += (1 - wide) * spread(u, draws.CROP_X)
        theta[:, 1, 2] += (1 - tall) * spread(u, draws.CROP_Y)
    return theta


def crop_sides(augment: Augment, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return height and width of the part that is read, as parts of the image's.

    ``resnet``: the short side is drawn from 256 to 480 pixels, of which 224 are read (Simonyan, Zisserman 2014, arXiv:1409.1556, section
    3.1). ``inception``: area from ``crop_area`` to 1 and aspect from 3/4 to 4/3, uniform in its logarithm (Szegedy et al. 2014,
    arXiv:1409.4842, section 6); a side that would leave the image is cut to it, where others draw again.
    """
    if augment.crop == "resnet":
        side = 224 / (256 + (480 - 256) * u[:, draws.CROP_AREA])
        return side, side
    area = augment.crop_area + (1 - augment.crop_area) * u[:, draws.CROP_AREA]
    ratio = torch.exp(spread(u, draws.CROP_ASPECT) * math.log(4 / 3))
    return (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)


def crops_alone(augment: Augment) -> bool:
    """Tell whether all geometry is a random part and left-right mirroring, before which nothing changes the pixels: a box says it all."""
    others = (augment.rotate, augment.scale, augment.stretch, augment.shear, augment.perspective, augment.lens, augment.elastic)
    return augment.crop != "none" and not any(others) and augment.policy == "none" and not augment.jpeg and not augment.flip_vertical


def crop_boxes(augment: Augment, u: torch.Tensor, regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the random part of each region as a box of whole pixels, int32 ``(n, 4)``: top, left, bottom, right.

    The part is that of ``affine_maps`` with its edges rounded to pixels; it is never empty.
    Shapes: ``regions`` (n, 4), the part of the picture that would be stored.
    """
    tall, wide = (side.double().numpy() for side in crop_sides(augment, u))
    origin, size = regions[:, :2].astype(np.float64), (regions[:, 2:] - regions[:, :2]).astype(np.float64)
    parts = np.stack([tall, wide], axis=1)
    place = np.stack([(1 + spread(u, draws.CROP_Y).double().numpy()) / 2, (1 + spread(u, draws.CROP_X).double().numpy()) / 2], axis=1)
    low = origin + (1 - parts) * place * size
    first = np.rint(low).astype(np.int32)
    last = np.minimum(np.maximum(np.rint(low + parts * size).astype(np.int32), first + 1), regions[:, 2:])
    first = np.minimum(first, last - 1)
    return np.concatenate([first, last], axis=1)


def distorted(grid_nhwc: torch.Tensor, augment: Augment, u: torch.Tensor) -> torch.Tensor:
    """Return the grid after elastic displacement, lens and perspective, in this order from the result to the source."""
    if augment.elastic:
        grid_nhwc = grid_nhwc + displacements(u, augment.elastic, (grid_nhwc.shape[1], grid_nhwc.shape[2]))
    if augment.lens:
        # one radial term (Brown 1966); a corner, at r^2 = 2, moves by the drawn part of its radius
        strength = (spread(u, draws.LENS) * augment.lens / 2)[:, None, None, None]
        grid_nhwc = grid_nhwc * (1 + strength * grid_nhwc.square().sum(3, keepdim=True))
    if augment.perspective:
        grid_nhwc = _projected(grid_nhwc, homographies(2 * augment.perspective * u[:, draws.CORNERS].reshape(-1, 4, 2)))
    return grid_nhwc


def displacements(u: torch.Tensor, deviation: float, size: tuple[int, int]) -> torch.Tensor:
    """Return a smooth random field ``(n, height, width, 2)``: normal numbers at 8 x 8 points with bicubic interpolation between them.

    The field of Simard et al. 2003 (Best practices for convolutional neural networks), with control points in place of a Gaussian filter.
    Units: ``deviation`` as a part of the side, that of the control points.
    """
    normal = torch.special.ndtri(u[:, draws.ELASTIC].clamp(1e-6, 1 - 1e-6)).reshape(-1, 2, CONTROL_POINTS, CONTROL_POINTS)
    field = F.interpolate(normal * (2 * deviation), size=size, mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def homographies(inwards: torch.Tensor) -> torch.Tensor:
    """Return 3x3 matrices that take the corners (-1,-1), (1,-1), (1,1), (-1,1) to places moved inwards by ``(n, 4, 2)``.

    References: Heckbert 1989, Fundamentals of texture mapping and image warping, section 2.2.3: eight equations, the last entry 1.
    """
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], device=inwards.device)
    targets = corners * (1 - inwards)
    n = len(inwards)
    x, y = corners[:, 0].expand(n, 4), corners[:, 1].expand(n, 4)
    p, q = targets[..., 0], targets[..., 1]
    one, none = torch.ones_like(p), torch.zeros_like(p)
    upper = torch.stack([x, y, one, none, none, none, -x * p, -y * p], 2)
    lower = torch.stack([none, none, none, x, y, one, -x * q, -y * q], 2)
    solved = torch.linalg.solve(torch.cat([upper, lower], 1).double(), torch.cat([p, q], 1).double()).to(inwards.dtype)
    return torch.cat([solved, torch.ones(n, 1, device=inwards.device)], 1).reshape(n, 3, 3)


def _projected(grid_nhwc: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    points = torch.cat([grid_nhwc, torch.ones_like(grid_nhwc[..., :1])], 3)
    seen = torch.einsum("nhwc,nkc->nhwk", points, maps)
    return seen[..., :2] / seen[..., 2:]


def spread(u: torch.Tensor, column: int) -> torch.Tensor:
    """Return a column of uniform numbers as -1 to 1."""
    return 2 * u[:, column] - 1

"""Warps against maps written out by hand and against scipy's interpolation; crops, mirrors and stored sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from convsmith.data.preprocess import Preprocess
from convsmith.training import Augment
from convsmith.training.augmentation import augmented, draws, geometry, stored_preprocess, to_input

HEIGHT, WIDTH = 12, 16
X = torch.rand(1, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
STILL = torch.zeros(1, dtype=torch.bool)
PREPROCESS = Preprocess(HEIGHT, WIDTH, 3, "squash", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def middle(**columns: float) -> torch.Tensor:
    """Return draws in the middle of their range, where nothing changes, but for some columns."""
    u = torch.full((1, draws.ELASTIC.stop), 0.5)
    for name, value in columns.items():
        u[:, getattr(draws, name.upper())] = value
    return u


def read(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate linearly at pixel places, the edge repeated: scipy's own code."""
    return np.stack([map_coordinates(channel, [rows, columns], order=1, mode="nearest") for channel in image])


def places(height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres on the scale -1 to 1."""
    rows, columns = np.meshgrid((2 * np.arange(height) + 1) / height - 1, (2 * np.arange(width) + 1) / width - 1, indexing="ij")
    return rows, columns


def pixels(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((rows + 1) * HEIGHT - 1) / 2, ((columns + 1) * WIDTH - 1) / 2


def test_lens_moves_points_along_their_radius() -> None:
    rows, columns = places()
    factor = 1 + 0.15 * (rows**2 + columns**2)
    found = geometry.warped(X, Augment(lens=0.3), middle(lens=1.0), STILL, (HEIGHT, WIDTH))
    # float32 places against float64 ones: a part in 1e6 of a pixel value
    np.testing.assert_allclose(found[0].numpy(), read(X[0].numpy(), *pixels(rows * factor, columns * factor)), atol=1e-5)


def test_perspective_takes_corners_where_they_were_drawn() -> None:
    inwards = torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(1)) * 0.6
    maps = geometry.homographies(inwards)
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    seen = torch.cat([corners, torch.ones(4, 1)], 1) @ maps.transpose(1, 2)
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], corners * (1 - inwards), rtol=0, atol=1e-5)


def test_perspective_reads_through_the_map() -> None:
    u = middle(corners=torch.linspace(0.1, 0.9, 8))
    h = geometry.homographies(0.4 * u[:, draws.CORNERS].reshape(-1, 4, 2))[0].double().numpy()
    rows, columns = places()
    p = np.einsum("ij,jhw->ihw", h, np.stack([columns, rows, np.ones_like(rows)]))
    found = geometry.warped(X, Augment(perspective=0.2), u, STILL, (HEIGHT, WIDTH))
    np.testing.assert_allclose(found[0].numpy(), read(X[0].numpy(), *pixels(p[1] / p[2], p[0] / p[2])), atol=1e-5)


def test_stretch_widens_about_the_centre() -> None:
    rows, columns = places()
    found = geometry.warped(X, Augment(stretch=0.5), middle(stretch=1.0), STILL, (HEIGHT, WIDTH))
    np.testing.assert_allclose(found[0].numpy(), read(X[0].numpy(), *pixels(rows, columns / 1.5)), atol=1e-5)


def test_elastic_has_its_deviation_at_the_control_points_and_is_smooth() -> None:
    u = torch.rand(400, draws.ELASTIC.stop, generator=torch.Generator().manual_seed(2))
    field = geometry.displacements(u, 0.05, (8, 8))
    # the scale of places is two sides long; 51,200 normal numbers: five standard errors are 1.6 %
    assert float(field.std()) == pytest.approx(2 * 0.05, rel=0.016)
    smooth = geometry.displacements(u, 0.05, (64, 64))
    assert float((smooth[:, 1:] - smooth[:, :-1]).abs().mean()) < 0.2 * float(smooth.abs().mean())


@pytest.mark.parametrize(("draw", "side"), [(0.0, 224 / 256), (1.0, 224 / 480)])
def test_a_crop_of_resnet_reads_224_of_256_to_480(draw: float, side: float) -> None:
    rows, columns = places()
    u = middle(crop_area=draw, crop_y=1.0, crop_x=0.0)
    found = geometry.warped(X, Augment(crop="resnet"), u, STILL, (HEIGHT, WIDTH))
    expected = read(X[0].numpy(), *pixels(rows * side + (1 - side), columns * side - (1 - side)))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_a_crop_of_inception_stays_inside_and_has_its_area_and_aspect() -> None:
    u = torch.rand(2000, draws.POLICY.stop, generator=torch.Generator().manual_seed(3))
    tall, wide = geometry.crop_sides(Augment(crop="inception"), u)
    assert float(tall.max()) <= 1 and float(wide.max()) <= 1
    free = (tall < 1) & (wide < 1)
    ratio, area = (wide / tall)[free], (wide * tall)[free]
    assert 3 / 4 - 1e-5 <= float(ratio.min()) < 0.8 and 1.25 < float(ratio.max()) <= 4 / 3 + 1e-5
    assert 0.08 - 1e-5 <= float(area.min()) < 0.1
    theta = geometry.affine_maps(Augment(crop="inception"), u, torch.zeros(2000, dtype=torch.bool), 1.0)
    reach = theta[:, :, :2].abs().sum(2) + theta[:, :, 2].abs()
    assert float(reach.max()) <= 1 + 1e-5


def test_images_are_kept_larger_only_where_parts_of_them_are_read() -> None:
    assert stored_preprocess(Preprocess(224, 224), Augment(flip=True)) == Preprocess(224, 224)
    kept = stored_preprocess(Preprocess(224, 224), Augment(crop="resnet"))
    assert (kept.height, kept.width) == (256, 256)
    x = torch.zeros(3, 14, 18, 3, dtype=torch.uint8)
    found = augmented(x, np.arange(3), Augment(crop="resnet"), PREPROCESS, seed=0, epoch=0)
    assert tuple(found.shape) == (3, 3, HEIGHT, WIDTH)


def test_alternating_mirrors_show_both_sides_in_two_epochs() -> None:
    indices = np.arange(200)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, HEIGHT, WIDTH, 3), dtype=np.uint8))
    first, second, third = (augmented(x, indices, Augment(flip="alternate"), PREPROCESS, seed=4, epoch=epoch) for epoch in range(3))
    plain = to_input(x, PREPROCESS)
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(first, plain, strict=True)])
    assert 70 < int(kept.sum()) < 130
    assert torch.equal(first, third) and torch.equal(first.flip(3), second)


def test_vertical_mirror() -> None:
    x = torch.arange(2 * HEIGHT * WIDTH * 3, dtype=torch.int32).remainder(256).to(torch.uint8).reshape(2, HEIGHT, WIDTH, 3)
    u = torch.full((2, draws.POLICY.stop), 0.5)
    u[0, draws.MIRROR_VERTICAL] = 0.9
    u[1, draws.MIRROR_VERTICAL] = 0.1
    found = geometry.moved(x, Augment(flip_vertical=True), u, torch.zeros(2, dtype=torch.bool))
    assert torch.equal(found[0], x[0].flip(0)) and torch.equal(found[1], x[1])


def test_a_rare_change_leaves_the_usual_draws_alone() -> None:
    x = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8))
    usual = augmented(x, np.arange(8), Augment(flip=True, shift=0.2), PREPROCESS, seed=1, epoch=1)
    # noise too small to see, but drawn
    rare = augmented(x, np.arange(8), Augment(flip=True, shift=0.2, noise=1e-12), PREPROCESS, seed=1, epoch=1)
    torch.testing.assert_close(rare, usual, rtol=0, atol=1e-6)
    assert math.isfinite(float(rare.sum()))

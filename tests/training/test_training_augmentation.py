"""Augmentation: exact where pixels only move, repeatable, and the identity when off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convsmith.data.preprocess import Preprocess, normalise
from convsmith.training import Augment
from convsmith.training.augmentation import augmented, to_input
from convsmith.training.chance import key, mix, order, uniforms

PREPROCESS = Preprocess(6, 10, 3, "squash", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
X = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 6, 10, 3), dtype=np.uint8))
INDICES = np.arange(100, 164)


def changed(seed: int = 1, epoch: int = 2, rows: slice = slice(None), **fields) -> torch.Tensor:
    return augmented(X[rows], INDICES[rows], Augment(**fields), PREPROCESS, seed=seed, epoch=epoch)


@pytest.mark.parametrize("channels_last", [False, True])
def test_input_is_the_shared_normalisation(channels_last: bool) -> None:
    x_nchw = to_input(X, PREPROCESS, channels_last)
    # one multiply and one add in float32: at most an ulp of difference where the processor fuses them
    np.testing.assert_allclose(x_nchw.numpy(), normalise(X.numpy(), PREPROCESS), rtol=0, atol=5e-7)
    assert x_nchw.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_off_is_the_identity() -> None:
    assert torch.equal(changed(), to_input(X, PREPROCESS))


def test_mirroring_only_mirrors_about_half() -> None:
    plain, found = to_input(X, PREPROCESS), changed(flip=True)
    same = [torch.equal(a, b) for a, b in zip(plain, found, strict=True)]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain, found, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 20 <= sum(mirrored) <= 44


def test_shift_moves_whole_pixels_and_repeats_the_edge() -> None:
    found, plain = changed(shift=0.34), to_input(X, PREPROCESS)
    moves = set()
    for image, original in zip(found, plain, strict=True):
        padded = torch.nn.functional.pad(original[None], (3, 3, 2, 2), mode="replicate")[0]
        fits = [(dy, dx) for dy in range(5) for dx in range(7) if torch.equal(padded[:, dy : dy + 6, dx : dx + 10], image)]
        assert len(fits) == 1
        moves.update(fits)
    assert {dy for dy, _ in moves} == set(range(5)) and {dx for _, dx in moves} == set(range(7))


@pytest.mark.parametrize(
    "fields",
    [
        {"flip": True, "shift": 0.2},
        {"rotate": 20.0, "scale": 0.2, "shear": 0.2, "flip": True, "shift": 0.1},
        {"light": 0.3},
        {"erase": 0.5},
        {"flip": "alternate", "flip_vertical": True},
        {"crop": "inception", "stretch": 0.2, "perspective": 0.1, "lens": 0.2, "elastic": 0.02},
        {"saturation": 0.5, "hue": 30.0, "blur": 1.5, "noise": 0.1, "jpeg": 30},
        {"policy": "trivial"},
        {"policy": "rand", "policy_operations": 3},
    ],
)
def test_an_image_depends_on_seed_epoch_and_index_alone(fields: dict) -> None:
    whole = changed(**fields)
    assert torch.equal(changed(rows=slice(20, 25), **fields), whole[20:25])
    assert not torch.equal(changed(epoch=3, **fields), whole)
    assert not torch.equal(changed(seed=2, **fields), whole)


def test_warp_of_nothing_but_a_hair_keeps_the_image() -> None:
    # bilinear interpolation at the pixels' own places; 1e-3 covers the turn of a ten-thousandth of a degree
    torch.testing.assert_close(changed(rotate=1e-4), to_input(X, PREPROCESS), rtol=0, atol=1e-3)


def test_rotation_by_a_right_angle_turns_a_square_image() -> None:
    from convsmith.training.augmentation.geometry import warped

    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    u = torch.full((1, 10), 0.5)
    u[:, 3] = 1.0
    turned = warped(x, Augment(rotate=90), u, torch.zeros(1, dtype=torch.bool), (8, 8))
    torch.testing.assert_close(turned, torch.rot90(x, 1, (2, 3)), rtol=0, atol=1e-5)


def test_erasing_sets_one_square_to_the_mean() -> None:
    plain, found = to_input(X, PREPROCESS), changed(erase=0.5)
    assert ((found == 0).all(1).sum((1, 2)) == 3 * 5).all()
    assert torch.equal(found[found != 0], plain[found != 0])


def test_light_is_affine_per_image() -> None:
    plain, found = to_input(X, PREPROCESS), changed(light=0.4)
    for image, original in zip(found, plain, strict=True):
        slope, offset = np.polyfit(original.ravel().numpy(), image.ravel().numpy(), 1)
        assert 0.6 <= slope <= 1.4
        np.testing.assert_allclose(image.numpy(), slope * original.numpy() + offset, atol=1e-4)


def test_mix_is_splitmix64() -> None:
    # first outputs of the reference splitmix64.c (Vigna 2015, public domain) for the seed 1234567
    state = np.array([1234567], np.uint64)
    found = []
    for _ in range(3):
        found.append(int(mix(state)[0]))
        state = state + np.uint64(0x9E3779B97F4A7C15)
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_order_is_a_new_permutation_each_epoch() -> None:
    first, second = order(1000, 0, 0), order(1000, 0, 1)
    assert sorted(first) == list(range(1000)) == sorted(second)
    assert (first == second).mean() < 0.02
    assert (order(1000, 0, 0) == first).all()


def test_uniforms_are_uniform() -> None:
    u = uniforms(np.arange(4000), 5, seed=0, epoch=0)
    assert u.min() >= 0 and u.max() < 1
    # five columns of 4,000: mean within 5 sigma of 1/2 (sigma 0.0046), variance of 1/12, correlations small
    np.testing.assert_allclose(u.mean(0), 0.5, atol=0.023)
    np.testing.assert_allclose(u.var(0), 1 / 12, atol=0.006)
    assert np.abs(np.corrcoef(u.T) - np.eye(5)).max() < 0.08
    assert key(1, 2) != key(2, 1)

"""Colour, corruption, policies and mixing against Pillow, scipy, colorsys and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from convsmith.data.preprocess import Preprocess
from convsmith.training import Augment, Training
from convsmith.training.augmentation import augmented, colour, colour_axes, corruption, draws, mixed, policies, to_input
from convsmith.training.losses import mixed_per_image

RNG = np.random.default_rng(0)
PREPROCESS = Preprocess(24, 20, 3, "squash", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
PICTURES = RNG.integers(0, 256, (6, 24, 20, 3), dtype=np.uint8)
SMOOTH = np.stack([np.asarray(Image.fromarray(p).resize((5, 6)).resize((20, 24), Image.Resampling.BICUBIC)) for p in PICTURES])


def as_planes(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def levels(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("amount", [-0.9, -0.3, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["brightness", "contrast", "colour", "sharpness"])
def test_enhancements_are_pillows(name: str, amount: float) -> None:
    enhancer = {"colour": ImageEnhance.Color}.get(name) or getattr(ImageEnhance, name.capitalize())
    expected = np.stack([np.asarray(enhancer(Image.fromarray(p)).enhance(1 + amount)) for p in PICTURES])
    found = levels(policies.OPERATIONS[name][0](as_planes(PICTURES), torch.full((6,), amount)))
    # Pillow blends in float32 and cuts off, after grey levels in 16-bit fixed point: one level, and one in the grey
    assert np.abs(found - expected).max() <= 2 and np.abs(found - expected).mean() < 0.35


@pytest.mark.parametrize("bits", [0, 2, 4, 6])
def test_posterize_is_pillows(bits: int) -> None:
    expected = np.stack([np.asarray(ImageOps.posterize(Image.fromarray(p), 8 - bits)) for p in PICTURES])
    np.testing.assert_array_equal(levels(policies.posterize(as_planes(PICTURES), torch.full((6,), float(bits)))), expected)


@pytest.mark.parametrize("amount", [0.0, 100.0, 255.0])
def test_solarize_is_pillows(amount: float) -> None:
    expected = np.stack([np.asarray(ImageOps.solarize(Image.fromarray(p), 255 - int(amount))) for p in PICTURES])
    np.testing.assert_array_equal(levels(policies.solarize(as_planes(PICTURES), torch.full((6,), amount))), expected)


@pytest.mark.parametrize("images", [PICTURES, SMOOTH, np.full((2, 24, 20, 3), 7, np.uint8)], ids=["noise", "smooth", "flat"])
def test_equalize_and_autocontrast_are_pillows(images: np.ndarray) -> None:
    none = torch.zeros(len(images))
    equal = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(p))) for p in images])
    np.testing.assert_array_equal(levels(policies.equalize(as_planes(images), none)), equal)
    stretched = np.stack([np.asarray(ImageOps.autocontrast(Image.fromarray(p))) for p in images])
    # float32 against float64 before cutting off to whole levels
    assert np.abs(levels(policies.autocontrast(as_planes(images), none)) - stretched).max() <= 1


def test_policies_draw_every_operation_and_strengths() -> None:
    x = torch.from_numpy(np.repeat(PICTURES[:1], 300, 0))
    u = torch.rand(300, 12, generator=torch.Generator().manual_seed(0))
    none = policies.changed(x, Augment(policy="rand", policy_strength=0, policy_operations=1), u)
    # at strength 0 only autocontrast and equalize change anything, and colour blends that cut off are exact
    same = (none == x).flatten(1).all(1)
    others = {"autocontrast", "equalize", "solarize"}
    names = list(policies.OPERATIONS)
    drawn = [names[int(v * len(names))] for v in u[:, 0]]
    assert set(drawn) == set(names)
    assert all(bool(kept) for kept, name in zip(same, drawn, strict=True) if name not in others)
    strong = policies.changed(x, Augment(policy="trivial"), u)
    assert int((strong == x).flatten(1).all(1).sum()) < 90


def test_turned_hue_keeps_luma_and_turns_once_round() -> None:
    angles = torch.tensor([0.0, 40.0, 120.0, 360.0])
    maps = colour.hue_maps(angles)
    luma = torch.tensor(colour.LUMA)
    # the YIQ coefficients have three digits, so luma is kept to 1e-6 in float32
    torch.testing.assert_close(luma @ maps, luma.expand(4, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps[0], torch.eye(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps[3], torch.eye(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps[1] @ maps[1] @ maps[1], maps[2], rtol=0, atol=1e-5)
    # grey has no hue; the published IQ rows add to zero
    torch.testing.assert_close(maps @ torch.ones(3), torch.ones(4, 3), rtol=0, atol=1e-6)


def test_saturation_zero_is_grey_and_one_the_colour() -> None:
    maps = colour.saturation_maps(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(maps[0], torch.tensor(colour.LUMA).expand(3, 3))
    torch.testing.assert_close(maps[1], torch.eye(3))


def test_colour_maps_act_on_the_scale_of_pixels() -> None:
    x = torch.from_numpy(PICTURES)
    u = torch.rand(6, draws.POLICY.stop, generator=torch.Generator().manual_seed(1))
    config = Augment(saturation=0.8, hue=60.0, lighting=0.1)
    axes = colour_axes(PICTURES)
    found = colour.coloured(to_input(x, PREPROCESS), config, u, PREPROCESS, axes)
    mean, std = np.array(PREPROCESS.mean), np.array(PREPROCESS.std)
    hue = colour.hue_maps((2 * u[:, draws.HUE] - 1) * 60).numpy()
    saturation = colour.saturation_maps(1 + (2 * u[:, draws.SATURATION] - 1) * 0.8).numpy()
    alpha = torch.special.ndtri(u[:, draws.LIGHTING]).numpy() * 0.1
    wanted = np.einsum("nij,njk,nhwk->nhwi", hue, saturation, PICTURES / 255) + (alpha @ axes.numpy())[:, None, None]
    np.testing.assert_allclose(levels(found), (wanted - mean) / std, atol=2e-5)
    with pytest.raises(ValueError, match="lighting needs the colour axes"):
        colour.coloured(to_input(x, PREPROCESS), config, u, PREPROCESS, None)


def test_colour_axes_are_those_of_the_covariance() -> None:
    pixels = (RNG.normal(size=(40, 50, 3)) @ np.diag([40, 10, 3]) + 128).clip(0, 255).astype(np.uint8)[None]
    axes = colour_axes(pixels).double().numpy()
    np.testing.assert_allclose(axes.T @ axes, np.cov(pixels.reshape(-1, 3).T / 255), atol=1e-6)


def test_blur_is_scipys_gaussian() -> None:
    x = to_input(torch.from_numpy(SMOOTH), PREPROCESS)
    sigmas = torch.linspace(0.4, 2.0, 6)
    found = corruption.blurred(x, sigmas, 2.0).numpy()
    for image, sigma, got in zip(x.numpy(), sigmas.tolist(), found, strict=True):
        wanted = np.stack([gaussian_filter(plane, sigma, mode="nearest", radius=6) for plane in image])
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_no_blur_is_the_identity() -> None:
    x = to_input(torch.from_numpy(PICTURES), PREPROCESS)
    torch.testing.assert_close(corruption.blurred(x, torch.zeros(6), 1.0), x, rtol=0, atol=1e-6)


def test_noise_is_normal_with_its_deviation_and_new_each_epoch() -> None:
    x = torch.zeros(50, 3, 24, 20)
    first, second = (corruption.noisy(x, torch.full((50,), 0.1), PREPROCESS, np.arange(50), 0, epoch) for epoch in (0, 1))
    spread = first.permute(1, 0, 2, 3).flatten(1) * torch.tensor(PREPROCESS.std)[:, None]
    # 24,000 numbers a channel: five standard errors of a deviation are 2.3 %
    np.testing.assert_allclose(spread.std(1).numpy(), 0.1, rtol=0.023)
    assert abs(float(spread.mean())) < 5 * 0.1 / 72000**0.5
    assert float(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 5 / 72000**0.5


def test_jpeg_is_pillows_file() -> None:
    import io

    found = corruption.compressed(torch.from_numpy(SMOOTH), 40, torch.zeros(6)).numpy()
    for image, got in zip(SMOOTH, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=40)
        np.testing.assert_array_equal(got, np.asarray(Image.open(buffer)))
    assert corruption.compressed(torch.from_numpy(SMOOTH[..., :1].copy()), 40, torch.ones(6)).shape == (6, 24, 20, 1)


def test_grey_images_take_every_change() -> None:
    grey = Preprocess(24, 20, 1, "squash", mean=(0.5,), std=(0.25,))
    config = Augment(saturation=0.5, hue=20, lighting=0.1, blur=1, noise=0.1, jpeg=50, policy="rand", elastic=0.02, perspective=0.1)
    found = augmented(torch.from_numpy(PICTURES[..., :1].copy()), np.arange(6), config, grey, seed=0, epoch=0)
    assert tuple(found.shape) == (6, 1, 24, 20) and bool(torch.isfinite(found).all())


def test_mixup_blends_and_the_loss_takes_both_labels() -> None:
    x = to_input(torch.from_numpy(PICTURES), PREPROCESS)
    found, mixture = mixed(x, np.arange(6), Augment(mixup=0.4), seed=0, epoch=0)
    assert mixture is not None and 0 < mixture.share < 1
    assert sorted(mixture.partner.tolist()) == list(range(6)) and all(p != i for i, p in enumerate(mixture.partner.tolist()))
    torch.testing.assert_close(found, mixture.share * x + (1 - mixture.share) * x[mixture.partner], rtol=0, atol=1e-5)
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    soft = mixture.share * torch.eye(4)[labels] + (1 - mixture.share) * torch.eye(4)[labels[mixture.partner]]
    wanted = -(soft * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(mixed_per_image(logits, labels, mixture, Training()), wanted)


def test_cutmix_pastes_one_box_and_counts_its_area() -> None:
    x = to_input(torch.from_numpy(PICTURES), PREPROCESS)
    shares = []
    for epoch in range(30):
        found, mixture = mixed(x, np.arange(6), Augment(cutmix=1.0), seed=0, epoch=epoch)
        assert mixture is not None
        own, other = (found == x).all(1), (found == x[mixture.partner]).all(1)
        assert bool((own | other).all())
        assert float(other.float().mean()) == pytest.approx(1 - mixture.share, abs=0.02)
        shares.append(mixture.share)
    # boxes are cut at the edges, so small shares are rare
    assert max(shares) - min(shares) > 0.4


def test_mixing_repeats_and_changes_with_the_epoch() -> None:
    x = to_input(torch.from_numpy(PICTURES), PREPROCESS)
    first, again, later = (mixed(x, np.arange(6), Augment(mixup=1.0, cutmix=1.0), seed=3, epoch=e)[0] for e in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert mixed(x, np.arange(6), Augment(), seed=0, epoch=0)[1] is None
    assert mixed(x[:1], np.arange(1), Augment(mixup=1.0), seed=0, epoch=0)[1] is None

"""Answers and weights averaged: views against Pillow, means against their definition, noise switched on and off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from convsmith import data, models
from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.models.stochastic_depth import BranchDrop
from convsmith.precision.plan import Plan
from convsmith.training import Training, fit, noise, snapshots, soups
from convsmith.training.averaging import Member, Method, Reading, read, views_of
from convsmith.training.views import FLIP, PLAIN, View, box_of, five_scales, ten_crops

FAST = {"deterministic": True, "precision": "float32", "threads": 1, "batch": 16, "learning_rate": 0.02}


def photos(n: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (30 + 3 * i, 41 - 2 * i, 3), np.uint8) for i in range(n)]


def test_boxes_lie_where_the_protocols_say() -> None:
    shape = Preprocess(224, 224, 3, "crop")
    assert box_of(PLAIN[0], shape, 375, 500) == (0, 62, 375, 437)
    # a short side of 256 with a crop of 224: 7/8 of 375 pixels are 328
    corners = [box_of(view, shape, 375, 500) for view in ten_crops()[:5]]
    assert corners == [(24, 86, 352, 414), (0, 0, 328, 328), (0, 172, 328, 500), (47, 0, 375, 328), (47, 172, 375, 500)]
    assert [view.mirrored for view in ten_crops()] == [False] * 5 + [True] * 5
    scales = five_scales()
    assert len(scales) == 50 and len(set(scales)) == 50
    # the box keeps 224 of L: at L = 640, 35 % of the short side
    assert [box_of(view, shape, 640, 640)[2] - box_of(view, shape, 640, 640)[0] for view in scales[::10]] == [640, 560, 373, 298, 224]
    squashed = Preprocess(32, 32, 3, "squash")
    assert box_of(View(256, 1.0, 0.0), squashed, 80, 40) == (10, 0, 80, 35)
    # the corners of a square of 80 that holds the image, 20 black columns on each side: 7/8 of it are 70
    filled = Preprocess(32, 32, 3, "fill")
    assert box_of(PLAIN[0], filled, 80, 40) == (0, -20, 80, 60)
    corners = [box_of(view, filled, 80, 40) for view in ten_crops()[1:5]]
    assert corners == [(0, -20, 70, 50), (0, -10, 70, 60), (10, -20, 80, 50), (10, -10, 80, 60)]


@pytest.mark.parametrize("mode", ["crop", "fill", "half_crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_pillows_boxes_and_the_plain_one_is_that_of_training(channels: int, mode: str) -> None:
    shape = Preprocess(24, 24, channels, mode, mean=(0.5,) * channels, std=(0.5,) * channels)
    np.testing.assert_array_equal(views_of(photos(), PLAIN[0], shape), [data.resize(image, shape) for image in photos()])
    view = View(256, 0.0, 1.0, mirrored=True)
    for image, found in zip(photos(), views_of(photos(), view, shape), strict=True):
        top, left, bottom, right = box_of(view, shape, *image.shape[:2])
        picture = Image.fromarray(image)
        if channels == 1:
            picture = picture.convert("L")
        picture = picture.crop((left, top, right, bottom))
        for size in ((24, picture.height), (24, 24)):
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        expected = np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).reshape(24, 24, channels)
        np.testing.assert_array_equal(found, expected)


def test_a_method_answers_with_the_mean_of_its_probabilities(make_net, preprocess, dataset) -> None:
    nets = {"a": make_net(seed=1).eval(), "b": make_net(seed=2).eval()}
    images = [dataset.val.image(index) for index in range(23)]
    pair = Method("pair", "", (Reading("a"), Reading("b", FLIP[1]), Reading("b", FLIP[1])))
    members = {name: Member(net, preprocess) for name, net in nets.items()}
    found = read([pair], members, images, batch=7)
    x = torch.from_numpy(data.normalise(np.stack(images), preprocess))
    with torch.inference_mode():
        a, b = F.softmax(nets["a"](x), 1).double(), F.softmax(nets["b"](x.flip(3)), 1).double()
    np.testing.assert_allclose(found.of(pair), (a + 2 * b) / 3, atol=1e-6)
    np.testing.assert_allclose(F.softmax(torch.from_numpy(found.logits(pair)), 1), found.of(pair), atol=1e-12)
    # what is named twice is read once
    assert found.cost_s(pair) == pytest.approx(sum(found.seconds.values())) and len(found.seconds) == 2


def test_draws_of_dropout_are_repeatable_and_differ(make_net, preprocess, dataset) -> None:
    net = make_net(norm=True, dropout=0.5).eval()
    images = [dataset.val.image(index) for index in range(10)]
    methods = [Method(str(draw), "", (Reading("n", draw=draw),)) for draw in range(3)]
    before = torch.get_rng_state()
    first, second = (read(methods, {"n": Member(net, preprocess)}, images, batch=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and not any(part.training for part in net.modules())
    for method in methods:
        np.testing.assert_array_equal(first.of(method), second.of(method))
    assert not np.allclose(first.of(methods[1]), first.of(methods[2])) and not np.allclose(first.of(methods[0]), first.of(methods[1]))
    x = torch.from_numpy(data.normalise(np.stack(images), preprocess))
    with torch.inference_mode():
        np.testing.assert_allclose(first.of(methods[0]), F.softmax(net(x), 1), atol=1e-6)


def test_dropout_reaches_every_layer_or_stands_before_the_last(make_net) -> None:
    net = make_net(dropout=0.1)
    restore = noise.attach(net, Training(dropout=0.4))
    assert net[3].p == 0.4
    restore()
    assert net[3].p == 0.1
    plain = models.load("resnet20", classes=4)
    assert not noise.draws(plain)
    restores = [noise.attach(plain, Training(dropout=0.5)) for _ in range(2)]  # the second finds the first
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    features = nn.Sequential(*[part for name, part in plain.named_children() if name != "linear"]).eval()
    with torch.inference_mode():
        read_by_head = features(x)
        plain.eval()
        exact = plain(x)
        torch.manual_seed(5)
        with noise.noisy(plain):
            noised = plain(x)
        torch.manual_seed(5)
        expected = plain.linear.__class__.forward(plain.linear, F.dropout(read_by_head, 0.5))
    torch.testing.assert_close(noised, expected)
    assert noise.draws(plain) and not torch.equal(noised, exact)
    for restore in restores:
        restore()
    assert not plain.linear._forward_pre_hooks


def test_stochastic_depth_rises_with_depth_and_keeps_the_mean() -> None:
    net = models.load("resnet20", classes=4)
    restore = noise.attach(net, Training(stochastic_depth=0.9))
    shares = [part.p for part in net.modules() if isinstance(part, BranchDrop)]
    assert shares == pytest.approx([0.1 * k for k in range(1, 10)])
    restore()
    assert all(part.p == 0 for part in net.modules() if isinstance(part, BranchDrop))
    torch.manual_seed(0)
    dropped = BranchDrop(0.25).train()(torch.ones(40_000, 1, 1, 1))
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    # the mean of 40,000 draws has a standard deviation of 0.003
    assert float(dropped.mean()) == pytest.approx(1, abs=0.012)
    with pytest.raises(UsageError, match="stochastic_depth leaves out residual branches, and this network has none"):
        noise.attach(models.load("smallnet", classes=4, in_channels=1, input_size=(8, 8)), Training(stochastic_depth=0.1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mlperf_resnet8"])
def test_every_residual_family_can_leave_branches_out(name: str) -> None:
    torch.manual_seed(0)
    net = models.load(name, classes=3, input_size=(32, 32))
    x = torch.randn(2, 3, 32, 32)
    net.eval()
    with torch.inference_mode():
        exact = net(x)
        noise.attach(net, Training(stochastic_depth=0.5))
        torch.testing.assert_close(net(x), exact, rtol=0, atol=0)  # in use nothing is left out
        with noise.noisy(net):
            assert not torch.equal(net(x), exact)


def test_dropped_connections_are_a_mask_of_the_weights(make_net) -> None:
    net, x = make_net(), torch.randn(3, 1, 8, 8)
    torch.manual_seed(7)
    found = noise.with_dropped_connections(net, 0.5, x)
    torch.manual_seed(7)
    mask = torch.empty_like(net[6].weight).bernoulli_(0.5)
    expected = F.linear(net[:6](x), net[6].weight * mask / 0.5, net[6].bias)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert torch.equal(net[6].weight.grad == 0, mask == 0)
    with pytest.raises(UsageError, match="drop_connect leaves out weights of linear layers"):
        noise.attach(nn.Sequential(nn.Conv2d(1, 2, 3)), Training(drop_connect=0.5))
    with pytest.raises(ValueError, match="drop_connect is not emulated under a plan"):
        Training(drop_connect=0.5, plan=Plan().to_dict())


def test_noise_is_of_the_training_alone_and_survives_a_resume(make_net, dataset, preprocess, stopped_and_resumed, tmp_path) -> None:
    config = Training(epochs=3, dropout=0.3, drop_connect=0.2, checkpoint_s=0, snapshots=3, **FAST)
    whole = fit(make_net(norm=True), dataset, config, preprocess=preprocess, checkpoints_in=tmp_path / "whole")
    assert whole.module[3].p == 0.0
    again = stopped_and_resumed(lambda: make_net(norm=True), config, tmp_path / "cut", 17)
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in whole.module.state_dict().items())
    first, second = (snapshots.load(tmp_path / name) for name in ("whole", "cut"))
    assert len(first) == len(second) == 3
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
    last = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(first[-1][name], last[name]) for name in last)  # the last snapshot is the end


def test_snapshots_are_due_evenly_in_the_last_quarter() -> None:
    taken = [progress for progress in range(1, 101) if snapshots.due(progress / 100, 5) > snapshots.due((progress - 1) / 100, 5)]
    assert taken == [80, 85, 90, 95, 100] and snapshots.due(1.0, 0) == 0


def test_means_of_weights_and_greedy_soups() -> None:
    states = [{"w": torch.tensor([float(k), 1.0]), "n": torch.tensor(k)} for k in (1, 2, 6)]
    mean = soups.mean(states)
    assert mean["w"].tolist() == [3.0, 1.0] and mean["n"] == 6
    with pytest.raises(UsageError, match="only weights of one architecture"):
        soups.mean([states[0], {"w": torch.zeros(3), "n": torch.tensor(0)}])
    # best at 3.5: alone 2 is nearest; with 1 the mean is 1.5 and farther, with 6 it is 4 and nearer
    kept, used = soups.greedy(states, lambda state: -abs(float(state["w"][0]) - 3.5))
    assert used == (1, 2) and kept["w"].tolist() == [4.0, 1.0]
    kept, used = soups.greedy(states, lambda state: -abs(float(state["w"][0]) - 2))
    assert used == (1,) and kept["w"].tolist() == [2.0, 1.0]


def test_norms_are_measured_anew_on_the_training_images(make_net, dataset, preprocess) -> None:
    net = make_net(norm=True).eval()
    net[1].running_mean.fill_(9.0)
    assert soups.restore_norms(net, dataset.train, preprocess, batch=101) == 101
    x = torch.from_numpy(data.normalise(np.stack([dataset.train.image(i) for i in range(101)]), preprocess))
    with torch.inference_mode():
        maps = net[0](x)
    torch.testing.assert_close(net[1].running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net[1].running_var, maps.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-5)
    assert net[1].momentum == 0.1 and not net[1].training
    assert soups.restore_norms(make_net(), dataset.train, preprocess) == 0

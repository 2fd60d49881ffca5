"""Training from given weights: what learns when, exact resume, and the scores against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from torch import nn

from convsmith.data.preprocess import Preprocess
from convsmith.training import Training, big_transfer, fit, score
from convsmith.training.big_transfer import hyperrule
from convsmith.training.blocks import blocks
from convsmith.training.features import Features, extract, extract_below, head_of, stages_of
from convsmith.training.probing import StageScore, recommend, score_stages
from convsmith.training.schedules import factor
from convsmith.training.surgery import relative_gradients, worst_third
from convsmith.training.transfer import Transfer
from convsmith.training.transferability import classifier, cross_validated, linear_layer, log_evidence, shrunk_h_score
from convsmith.training.updates import Updater

FAST = {"deterministic": True, "precision": "float32", "threads": 1, "batch": 16, "learning_rate": 0.02}


class Deep(nn.Module):
    """Three blocks with norms and a head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(self.block(1, 4), self.block(4, 6), self.block(6, 8))
        self.pool, self.flatten, self.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)

    def block(self, channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.flatten(self.pool(self.features(x))))
        return out


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: nn.Module) -> set[str]:
    return {name.rsplit(".", 1)[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def clusters(n: int, maps: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (rng.standard_normal((n, maps)) + apart * np.eye(maps)[labels]).astype(np.float32), labels.astype(np.int64)


def test_factors_and_moments_of_the_blocks() -> None:
    rates = {
        kind: [(b.name, b.factor, b.since) for b in blocks(Deep(), Transfer(strategy=kind))] for kind in ("linear", "fine_tune", "full")
    }
    assert rates["fine_tune"] == [("features.0", 0, 0), ("features.1", 0.01, 0), ("features.2", 0.1, 0), ("head", 1, 0)]
    assert [factor for _, factor, _ in rates["linear"]] == [0, 0, 0, 1]
    assert [factor for _, factor, _ in rates["full"]] == [0.1, 0.1, 0.1, 1]
    head_first = blocks(Deep(), Transfer(strategy="head_first", head_part=0.2))
    assert [round(block.since, 3) for block in head_first] == [0.6, 0.4, 0.2, 0]
    decayed = blocks(Deep(), Transfer(strategy="full", layer_decay=0.5))
    assert [block.factor for block in decayed] == [0.125, 0.25, 0.5, 1]
    surgical = blocks(Deep(), Transfer(strategy="surgical", block="bottom"))
    assert [block.factor for block in surgical] == [1, 0, 0, 1]
    assert [block.factor for block in blocks(Deep(), Transfer(strategy="lp_ft"))] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "moves"),
    [
        ("linear", {"head"}),
        ("fine_tune", {"features.1.0", "features.1.1", "features.2.0", "features.2.1", "head"}),
        ("surgical", {"features.1.0", "features.1.1", "head"}),
        ("lp_ft", {f"features.{i}.{j}" for i in range(3) for j in range(2)} | {"head"}),
        ("full", {f"features.{i}.{j}" for i in range(3) for j in range(2)} | {"head"}),
    ],
)
def test_frozen_layers_and_their_norms_stay_bit_for_bit(kind: str, moves: set[str], dataset, preprocess) -> None:
    module = Deep()
    before = state(module)
    fit(module, dataset, Training(epochs=2, transfer={"strategy": kind}, **FAST), preprocess=preprocess)
    assert changed(before, module) == moves
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_norms_keep_their_statistics_when_asked(dataset, preprocess) -> None:
    module = Deep()
    before = state(module)
    config = Training(epochs=1, transfer={"strategy": "full", "freeze_norm": True}, **FAST)
    fit(module, dataset, config, preprocess=preprocess)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" in name or "num_batches" in name), name


def test_the_head_learns_alone_first_and_blocks_follow_from_the_top(dataset, preprocess) -> None:
    module = Deep()
    updater = Updater(module, Training(transfer={"strategy": "head_first", "head_part": 0.2}, **FAST), preprocess, None)
    updater._open(0.1)
    assert {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad} == {"head"}
    assert not module.features[2][1].training
    updater._open(0.2)
    assert {name for name, p in module.named_parameters() if p.requires_grad and "weight" in name} == {
        "features.2.0.weight",
        "features.2.1.weight",
        "head.weight",
    }
    updater._open(0.61)
    assert all(p.requires_grad for p in module.parameters()) and module.features[0][1].training


def test_a_blend_answers_by_the_first_and_the_last_weights(dataset, preprocess) -> None:
    first, last = state(Deep()), {}
    for blend in (0.0, 0.25):
        config = Training(epochs=1, transfer={"strategy": "full", "freeze_norm": True, "blend": blend}, **FAST)
        found = fit(Deep(), dataset, config, preprocess=preprocess)
        if not blend:
            last = state(found.module)
    blended = found.module.state_dict()
    assert changed(last, found.module) == changed(last, Deep())
    for name, value in blended.items():
        expected = 0.25 * first[name] + 0.75 * last[name] if value.is_floating_point() else last[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)  # one rounding more or less of a sum of two
    assert found.best_accuracy == float((score(found.module, dataset.val, preprocess).argmax(1) == dataset.val.labels).mean())
    with pytest.raises(ValueError, match=r"transfer.blend is not for training under a plan"):
        Training(transfer={"blend": 0.5}, plan={"rules": []})


@pytest.mark.parametrize("kind", ["head_first", "fine_tune"])
def test_resume_ends_as_if_it_had_never_stopped(kind: str, dataset, preprocess, stopped_and_resumed, tmp_path) -> None:
    config = Training(epochs=4, optimizer="adamw", checkpoint_s=0, transfer={"strategy": kind, "anchor": 0.1, "blend": 0.5}, **FAST)
    whole = fit(Deep(), dataset, config, preprocess=preprocess)
    again = stopped_and_resumed(Deep, config, tmp_path, 11)
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in whole.module.state_dict().items())


def test_the_anchor_pulls_back_to_the_given_weights(dataset, preprocess) -> None:
    def distance(anchor: float) -> float:
        module = Deep()
        before = state(module)
        config = Training(epochs=3, weight_decay=0.0, transfer={"strategy": "full", "anchor": anchor}, **FAST)
        fit(module, dataset, config, preprocess=preprocess)
        body = ((name, p.detach()) for name, p in module.named_parameters() if name.startswith("features"))
        return sum(float((p - before[name]).square().sum()) for name, p in body)

    assert distance(100.0) < 0.1 * distance(0.0)


def test_log_evidence_is_the_largest_marginal_likelihood() -> None:
    """The evidence of y = F w + noise is a normal density of y with covariance I / beta + F F' / alpha, maximised over both."""
    for maps in (5, 40):  # fewer features than images, and more
        features, labels = clusters(30, maps, 1.5)
        f, expected = features.astype(np.float64), []
        for label in range(3):
            y = (labels == label).astype(np.float64)

            def loss(logs: np.ndarray, y: np.ndarray = y, f: np.ndarray = f) -> float:
                covariance = np.eye(30) / np.exp(logs[1]) + f @ f.T / np.exp(logs[0])
                return -float(multivariate_normal.logpdf(y, np.zeros(30), covariance))

            expected.append(-minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun / 30)
        assert log_evidence(features, labels) == pytest.approx(np.mean(expected), abs=1e-4)


def test_h_score_of_many_images_is_the_plain_one_and_orders_separation() -> None:
    features, labels = clusters(6000, 4, 2.0)
    f = features.astype(np.float64) - features.mean(0)
    means = np.stack([f[labels == label].mean(0) for label in range(3)])[labels]
    plain = np.trace(np.linalg.pinv(np.cov(f.T)) @ np.cov(means.T))
    assert shrunk_h_score(features, labels) == pytest.approx(plain, rel=0.01)
    scores = [shrunk_h_score(*clusters(60, 50, apart)) for apart in (0.0, 1.0, 3.0)]
    assert scores == sorted(scores)


def test_a_fitted_layer_answers_as_the_classifier_it_came_from() -> None:
    for classes in (2, 3):
        features, labels = clusters(90, 6, 2.0)
        features, labels = features[labels < classes], labels[labels < classes]
        weight, bias = linear_layer(features, labels, classes + 1)
        found = (features @ weight.T + bias).argmax(1)
        best = [classifier(strength=strength).fit(features, labels).predict(features) for strength in (1e-3, 1e-2, 1e-1)]
        assert any(np.array_equal(found, each) for each in best)
        assert (found == labels).mean() > 0.7
    assert cross_validated(features, labels).mean() > cross_validated(*clusters(90, 6, 0.0)).mean()


def test_features_are_what_the_modules_give(dataset, preprocess) -> None:
    module = Deep().train()
    stages = stages_of(module, preprocess)
    assert (stages, head_of(module)[0]) == (("features.0", "features.1", "features.2", "pool"), "head")
    found = extract(module, dataset.val, preprocess, stages, mirror=True)
    below = extract_below(module, "head", dataset.val, preprocess)
    assert module.training and isinstance(module.head, nn.Linear)
    from convsmith.data import normalise

    x = torch.from_numpy(normalise(np.stack([dataset.val.image(i) for i in range(len(dataset.val))]), preprocess))
    module.eval()
    with torch.inference_mode():
        np.testing.assert_allclose(found.images["features.1"], module.features[:2](x).mean((2, 3)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.mirrored["features.0"], module.features[:1](x.flip(3)).mean((2, 3)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(below.images["head"], module.flatten(module.pool(module.features(x))), rtol=1e-5, atol=1e-6)
    assert np.array_equal(found.labels, dataset.val.labels)
    assert [score.stage for score in score_stages(found)] == list(stages)


def stage(name: str, accuracy: float, error: float = 0.01) -> StageScore:
    return StageScore(name, 8, accuracy, error, accuracy, 0.0, 0.0)


@pytest.mark.parametrize(
    ("per_class", "early", "last", "allowed", "strategy", "where"),
    [
        (20, 0.6, 0.8, None, "wise", "last"),
        (20, 0.9, 0.8, None, "wise", "early"),
        (500, 0.6, 0.8, None, "full", "last"),
        (500, 0.9, 0.8, 9.0, "full", "early"),
        (20, 0.6, 0.8, 5.0, "fine_tune", "last"),
        (20, 0.6, 0.8, 3.0, "linear", "last"),
        (20, 0.9, 0.8, 3.0, "linear_on_stage", "early"),
        (500, 0.6, 0.8, 0.5, "linear", "last"),
        (20, 0.5, 0.5, None, "scratch", "early"),
    ],
)
def test_the_matrix_of_little_and_much_similar_and_different_and_the_time(
    per_class: int, early: float, last: float, allowed: float | None, strategy: str, where: str
) -> None:
    features = Features(("early", "last"), {}, {}, np.repeat(np.arange(2), per_class), 60.0)
    minutes = {"wise": 8.0, "full": 8.0, "fine_tune": 4.0, "linear": 1.0, "linear_on_stage": 1.0}
    scores = (stage("early", early), stage("last", last))
    found = recommend(scores, features, minutes=minutes, allowed=allowed)
    assert (found.strategy, found.stage) == (strategy, where)
    assert f"{per_class} images a class are {'little' if per_class < 100 else 'much'}" in found.reason
    assert found.minutes == minutes.get(strategy, 60.0)
    assert ("would take 8 minutes of" in found.reason) == (allowed is not None and allowed < 8)


def test_grey_images_reach_a_colour_network() -> None:
    assert stages_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)), Preprocess(8, 8)) == ("1",)


def test_the_third_that_the_images_pull_most_is_found(dataset, preprocess) -> None:
    """Against gradients of the whole loss by hand, with the weights of the middle block made tiny so that its share is largest."""
    module = Deep().eval()
    with torch.no_grad():
        module.features[1][0].weight.mul_(1e-3)
    config = Training(**{**FAST, "batch": "full"}, augment={"shift": 0.2}, transfer={"strategy": "surgical", "freeze_norm": True})
    before = state(module)
    found = relative_gradients(module, dataset, config, preprocess, count=1)
    assert not changed(before, module) and all(p.grad is None for p in module.parameters())
    from convsmith.data import normalise

    x = torch.from_numpy(normalise(np.stack([dataset.train.image(i) for i in range(101)]), preprocess))
    total = nn.functional.cross_entropy(module(x), torch.from_numpy(dataset.train.labels))
    total.backward()
    for place, third in enumerate(("bottom", "middle", "top")):
        parts = [p for p in module.features[place].parameters() if p.ndim > 1]
        assert found[third] == pytest.approx(float(parts[0].grad.norm() / parts[0].detach().norm()), rel=1e-3)
    third, why = worst_third(module, dataset, config, preprocess)
    assert third == max(found, key=found.get) == "middle" and why.startswith("its gradient is the largest part of its weights (top ")


def test_the_rule_of_big_transfer() -> None:
    few, many, most = (hyperrule(n, area) for n, area in ((1000, 32 * 32), (20_000, 96 * 96), (500_000, 300 * 300)))
    assert (few.steps, few.crop, few.resize, few.mixup) == (500, 128, 160, 0.0)
    assert (many.steps, many.crop, many.mixup, most.steps) == (10_000, 480, 0.1, 20_000)
    config = Training.model_validate({**big_transfer.settings(few, 1000, 512, True), "transfer": {"strategy": "bit"}})
    # two updates an epoch: 250 epochs, warm up to update 100, a tenth of the rate at 200, 300 and 400
    rates = [0.003 * factor(config.schedule, step / 2, config.epochs) for step in (0, 50, 100, 199, 201, 301, 401, 499)]
    assert rates == pytest.approx([0, 0.0015, 0.003, 0.003, 0.0003, 3e-5, 3e-6, 3e-6])
    assert big_transfer.settings(few, 1000, 32, False)["learning_rate"] == pytest.approx(0.003 / 16)

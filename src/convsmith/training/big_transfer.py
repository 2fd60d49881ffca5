"""BiT's rule for fine-tuning: steps, resolution and mixup from the number of images and their size alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LEARNING_RATE = 0.003
BATCH = 512
SMALL_AREA = 96 * 96


@dataclass(frozen=True)
class HyperRule:
    """What the rule says. ``supports``: updates at which the warm-up ends, the rate falls to a tenth (three times), and the run ends.

    References: Kolesnikov et al. 2019, Big Transfer, arXiv 1912.11370, section 3.3; its published code has the numbers.
    """

    supports: tuple[int, int, int, int, int]
    resize: int
    crop: int
    mixup: float

    @property
    def steps(self) -> int:
        return self.supports[-1]


def hyperrule(images: int, area: int) -> HyperRule:
    """Return the rule for so many training images of so many pixels."""
    resize, crop = (160, 128) if area < SMALL_AREA else (512, 480)
    if images < 20_000:
        return HyperRule((100, 200, 300, 400, 500), resize, crop, 0.0)
    if images < 500_000:
        return HyperRule((500, 3000, 6000, 9000, 10_000), resize, crop, 0.1)
    return HyperRule((500, 6000, 12_000, 18_000, 20_000), resize, crop, 0.1)


def settings(rule: HyperRule, images: int, batch: int, flip: bool) -> dict[str, Any]:
    """Return the training settings of a rule with batches of another size than 512: as many updates, the rate in proportion."""
    batch = min(batch, images)
    epoch = -(-images // batch)
    warmup, *drops, end = (step / epoch for step in rule.supports)
    return {
        "epochs": end,
        "batch": batch,
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
        "learning_rate": LEARNING_RATE * batch / BATCH,
        "schedule": {"kind": "multistep", "warmup": warmup, "milestones": tuple(drop - warmup for drop in drops), "gamma": 0.1},
        "label_smoothing": 0.0,
        "augment": {"flip": flip, "shift": (rule.resize - rule.crop) / rule.resize / 2, "mixup": rule.mixup},
    }

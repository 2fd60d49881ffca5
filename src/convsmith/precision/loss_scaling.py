"""A factor on the loss that keeps small errors from becoming zero, and what it does after an overflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from convsmith.precision.schedule import LossScale


class LossScaler:
    """Scales the loss, takes the factor out of the gradients, and decides whether an update may be made."""

    def __init__(self, settings: LossScale) -> None:
        self.settings = settings
        self.value = 1.0 if settings.kind == "none" else settings.value
        self.good = 0
        self.skipped = 0
        self._ready = False

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss times the factor."""
        return loss if self.value == 1.0 else loss * self.value

    def unscale(self, gradients: Iterable[Tensor]) -> None:
        """Divide the gradients by the factor, once before each update."""
        if self.value != 1.0 and not self._ready:
            for gradient in gradients:
                gradient.div_(self.value)
        self._ready = True

    def decide(self, gradients: Iterable[Tensor]) -> bool:
        """Tell whether to make the update; a dynamic factor falls after one that is not finite and rises after many that are."""
        self._ready = False
        if self.settings.kind != "dynamic":
            return True
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self.good += 1
            if self.good == self.settings.interval:
                self.value, self.good = self.value * self.settings.factor, 0
            return True
        self.value, self.good, self.skipped = self.value / self.settings.factor, 0, self.skipped + 1
        return False

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "good": self.good, "skipped": self.skipped}

    def load(self, state: Mapping[str, Any]) -> None:
        self.value, self.good, self.skipped = state["value"], state["good"], state["skipped"]

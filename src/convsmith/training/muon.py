"""Muon: momentum whose update of a weight matrix is made orthogonal; Adam for everything that is no filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

STEPS = 3
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
OTHERS = 0.05
"""Rate of Adam for biases, norms and linear layers, as a part of the filters' rate."""


def orthogonalised(matrix: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Return a matrix with the singular vectors of the given one and singular values near 1 (0.7 to 1.2 after five steps).

    Newton-Schulz with a quintic whose slope at 0 is as steep as it stays stable, in float32.

    References: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; the iteration: Bernstein, Newhouse 2024,
    arXiv 2409.20325.
    """
    a, b, c = COEFFICIENTS
    x: torch.Tensor = matrix.float().clone()
    x /= x.norm() + 1e-7
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: torch.Tensor = x.T if turned else x
    return found


def muon_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the group of the filters (four axes), and those of all else: what decays and what does not."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    filters = [p for p in trainable if p.ndim == 4]
    others = ([p for p in trainable if 1 < p.ndim < 4], weight_decay), ([p for p in trainable if p.ndim <= 1], 0.0)
    found: list[dict[str, Any]] = [{"params": filters, "filters": True, "weight_decay": 0.0}] if filters else []
    return found + [{"params": params, "filters": False, "weight_decay": decay, "factor": OTHERS} for params, decay in others if params]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, for groups with ``filters``, whose weights keep the norm sqrt(filters); else AdamW.

    Norms behind every filter make its length meaningless; kept fixed, the rate is an angle (airbench, arXiv 2404.00498).
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, momentum: float, betas: tuple[float, float], nesterov: bool = True
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "nesterov": nesterov, "weight_decay": 0.0, "filters": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (_turn if group["filters"] else _adam)(p, group, self.state[p])


def _turn(p: torch.Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    grad = p.grad
    assert grad is not None
    if "mean" not in state:
        state["mean"] = torch.zeros_like(p)
    mean = state["mean"]
    mean.mul_(group["momentum"]).add_(grad)
    update = grad.add(mean, alpha=group["momentum"]) if group["nesterov"] else mean
    p.mul_(len(p) ** 0.5 / p.norm().clamp_min(1e-12))
    p.add_(orthogonalised(update.reshape(len(p), -1)).view(p.shape).to(p.dtype), alpha=-group["lr"])


def _adam(p: torch.Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    grad, (first, second) = p.grad, group["betas"]
    assert grad is not None
    if "step" not in state:
        state["step"], state["mean"], state["square"] = torch.zeros(()), torch.zeros_like(p), torch.zeros_like(p)
    state["step"] += 1
    count = int(state["step"])
    state["mean"].lerp_(grad, 1 - first)
    state["square"].mul_(second).addcmul_(grad, grad, value=1 - second)
    p.mul_(1 - group["lr"] * group["weight_decay"])
    size = (state["square"] / (1 - second**count)).sqrt_().add_(1e-8)
    p.addcdiv_(state["mean"], size, value=-group["lr"] / (1 - first**count))

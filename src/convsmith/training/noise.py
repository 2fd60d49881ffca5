"""Parts of a network left out at random: dropout, DropConnect and stochastic depth, switched on by the training's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from convsmith.errors import UsageError
from convsmith.models.stochastic_depth import BranchDrop
from convsmith.training.config import Training
from convsmith.training.features import head_of

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class HeadDropout:
    """Dropout on what the last layer reads, of a network that was built without any; while ``noisy`` it works outside training too."""

    def __init__(self, p: float) -> None:
        self.p, self.noisy = p, False

    def __call__(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if not (layer.training or self.noisy):
            return None
        return (F.dropout(inputs[0], self.p), *inputs[1:])


def attach(module: nn.Module, config: Training) -> Callable[[], None]:
    """Set the shares that ``config`` asks for and return a function that puts everything back; twice is as good as once.

    Dropout goes to every dropout layer there is, else before the last layer. Stochastic depth rises in a straight line from the first
    residual branch to its full share at the last (Huang et al. 2016, section 3).

    Raises: UsageError when the network has no residual branch to leave out, or no linear layer for DropConnect.
    """
    undo: list[Callable[[], None]] = []
    if config.dropout is not None:
        undo += _dropout(module, config.dropout)
    if config.stochastic_depth:
        branches = [part for part in module.modules() if isinstance(part, BranchDrop)]
        if not branches:
            raise UsageError("stochastic_depth leaves out residual branches, and this network has none; take a resnet or mobilenet_v2")
        for place, branch in enumerate(branches, 1):
            undo.append(_set(branch, config.stochastic_depth * place / len(branches)))
    if config.drop_connect and not linear_weights(module):
        raise UsageError("drop_connect leaves out weights of linear layers, and this network has none; use dropout or stochastic_depth")

    def restore() -> None:
        for step in reversed(undo):
            step()

    return restore


def _dropout(module: nn.Module, p: float) -> list[Callable[[], None]]:
    layers = [part for part in module.modules() if isinstance(part, DROPOUTS)]
    if layers:
        return [_set(layer, p) for layer in layers]
    head = head_of(module)[1]
    if any(isinstance(hook, HeadDropout) for hook in head._forward_pre_hooks.values()) or p == 0:
        return []
    return [head.register_forward_pre_hook(HeadDropout(p)).remove]


def _set(layer: Any, p: float) -> Callable[[], None]:
    before = layer.p
    layer.p = p
    return lambda: setattr(layer, "p", before)


def linear_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of the linear layers by their names."""
    return {f"{name}.weight": part.weight for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def with_dropped_connections(module: nn.Module, p: float, x_nchw: torch.Tensor) -> torch.Tensor:
    """Return the answers of a network whose linear layers lack a share ``p`` of their weights, the others scaled by 1 / (1 - p).

    One draw a batch; the gradients go to the whole weights.

    References: Wan, Zeiler, Zhang, LeCun, Fergus 2013, Regularization of neural networks using DropConnect, section 3.
    """
    thinned = {name: F.dropout(weight, p) for name, weight in linear_weights(module).items()}
    answers: torch.Tensor = torch.func.functional_call(module, thinned, (x_nchw,))
    return answers


def draws(module: nn.Module) -> bool:
    """Tell whether a pass of the network with `noisy` differs from one without."""
    layers = (part for part in module.modules() if isinstance(part, (*DROPOUTS, BranchDrop)))
    return any(layer.p > 0 for layer in layers) or bool(_hooks(module))


@contextmanager
def noisy(module: nn.Module) -> Iterator[None]:
    """Let dropout and stochastic depth work for the time of the block while batch norm and all else answer as in use."""
    parts = [part for part in module.modules() if isinstance(part, (*DROPOUTS, BranchDrop))]
    modes = [part.training for part in parts]
    hooks = _hooks(module)
    try:
        for part in parts:
            part.training = True
        for hook in hooks:
            hook.noisy = True
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        for hook in hooks:
            hook.noisy = False


def _hooks(module: nn.Module) -> list[HeadDropout]:
    return [hook for part in module.modules() for hook in part._forward_pre_hooks.values() if isinstance(hook, HeadDropout)]

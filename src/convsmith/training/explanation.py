"""What one image does in a network: the activations of every layer, its first filters, and where the answer comes from (Grad-CAM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import UsageError, near
from convsmith.models.modes import in_evaluation

MAPS: Final = 16
BINS: Final = 32
SIDE_PX: Final = 112
"""Activation maps larger than so many pixels a side are shown reduced."""


@dataclass(frozen=True)
class Activation:
    """What one layer gave for the image.

    ``maps``: the channels of largest mean magnitude as uint8 ``(n, rows, columns)``, all scaled together from the least value shown to the
    largest; no rows for a layer that has no rows and columns. ``channels``: which they are. ``counts``: of values in 32 bins of equal
    width from ``minimum`` to ``maximum``. ``zeros``: share of values that are exactly 0. ``silent``: channels that are 0 everywhere.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: float
    silent: int
    counts: tuple[int, ...]
    channels: tuple[int, ...]
    maps: NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the maps."""
        return {key: value for key, value in vars(self).items() if key != "maps"}


@dataclass(frozen=True)
class Explanation:
    """One image in one network.

    ``image``: what the network read, uint8 ``(rows, columns, channels)``. ``probabilities``: of each class. ``target``: the class that
    ``heat`` speaks of. ``heat``: Grad-CAM, float32 ``(rows, columns)`` of the image's size, 0 to 1, all 0 where nothing speaks for the
    target; taken at layer ``heat_layer``. ``filters``: the weights of the first convolution as uint8 ``(n, rows, columns, 1 or 3)``, of
    layer ``filters_layer``; no rows without one.
    """

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    target: int
    heat: NDArray[np.float32]
    heat_layer: str
    filters: NDArray[np.uint8]
    filters_layer: str
    activations: tuple[Activation, ...]


def explain(
    module: nn.Module,
    image: NDArray[np.uint8],
    preprocess: Preprocess,
    *,
    target: int | None = None,
    layer: str | None = None,
    maps: int = MAPS,
) -> Explanation:
    """Return what an image does in a network; the module is left as it was.

    ``target``: the class to explain, by default the likeliest. ``layer``: the module whose maps Grad-CAM weighs, by default the last that
    has rows and columns.

    Shapes: ``image`` uint8 ``(rows, columns, channels)`` of any size.
    References: Selvaraju et al. 2017, Grad-CAM, arXiv:1610.02391, equations 1 and 2.
    Raises: UsageError for a class or layer that is not there, and for Grad-CAM at a layer without rows and columns.
    """
    small = resize(image, preprocess)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    x_nchw = torch.from_numpy(normalise(small[None], preprocess)).to(device)
    with in_evaluation(module), torch.enable_grad():
        seen, logits = watch(module, x_nchw.requires_grad_())
        if logits.ndim != 2 or len(logits) != 1:
            raise UsageError(f"the network gives an array of {tuple(logits.shape)} for one image; explained are scores of classes")
        scores = logits[0].float()
        chosen = int(scores.argmax()) if target is None else target
        if not 0 <= chosen < len(scores):
            raise UsageError(f"class {chosen} is not there; the network has classes 0 to {len(scores) - 1}")
        place = _place(seen, layer)
        heat = grad_cam(scores[chosen], seen[place], (preprocess.height, preprocess.width))
    kinds = {name: type(part).__name__ for name, part in module.named_modules()}
    first, filters = first_filters(module)
    return Explanation(
        image=small,
        probabilities=scores.detach().softmax(0).cpu().numpy(),
        target=chosen,
        heat=heat,
        heat_layer=place,
        filters=filters,
        filters_layer=first,
        activations=tuple(activation_of(name, kinds[name], value.detach()[0].cpu().float(), maps) for name, value in seen.items()),
    )


def watch(module: nn.Module, x_nchw: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the output of every innermost module for a batch, in the order of computation, and what the network returns.

    A module that runs several times shows its last output. Operations in place work on copies, so that every output stays what it was.
    """
    seen: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[..., torch.Tensor | None]:
        def hook(part: nn.Module, given: Any, result: Any) -> torch.Tensor | None:
            if not isinstance(result, torch.Tensor) or not result.is_floating_point():
                return None
            seen.pop(name, None)
            seen[name] = result
            return result.clone()

        return hook

    leaves = [(name, part) for name, part in module.named_modules() if next(part.children(), None) is None]
    handles = [part.register_forward_hook(note(name)) for name, part in leaves]
    try:
        return seen, module(x_nchw)
    finally:
        for handle in handles:
            handle.remove()


def grad_cam(score: torch.Tensor, activation: torch.Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the map of one image, float32 of ``size``: channels weighed by their mean gradient, summed, cut at 0, largest value 1.

    Shapes: ``activation`` (1, channels, rows, columns), of which ``score`` was computed.
    """
    (slope,) = torch.autograd.grad(score, activation)
    weights = slope.mean((2, 3), keepdim=True)
    summed = F.relu((weights * activation.detach()).sum(1, keepdim=True))
    heat = F.interpolate(summed, size, mode="bilinear", align_corners=False)[0, 0]
    most = float(heat.max())
    return np.asarray((heat / most if most > 0 else heat).cpu().numpy(), np.float32)


def activation_of(name: str, kind: str, value: torch.Tensor, maps: int) -> Activation:
    """Describe the output of a layer for one image.

    Shapes: ``value`` (channels, rows, columns), or any other.
    """
    numbers = value.reshape(-1)
    low, high = float(numbers.min()), float(numbers.max())
    counts = torch.histc(numbers, BINS, low, high) if high > low else torch.tensor([numbers.numel(), *[0] * (BINS - 1)])
    planes = value if value.ndim == 3 and value.shape[1] * value.shape[2] > 1 else value.new_zeros(0, 0, 0)
    chosen = planes.abs().mean((1, 2)).topk(min(maps, len(planes))).indices if len(planes) else torch.zeros(0, dtype=torch.int64)
    rows = value.reshape(len(value), -1) if value.ndim > 1 else numbers[:, None]
    return Activation(
        name,
        kind,
        tuple(value.shape),
        float(numbers.mean()),
        float(numbers.std(correction=0)),
        low,
        high,
        float((numbers == 0).float().mean()),
        int((rows == 0).all(1).sum()),
        tuple(int(n) for n in counts),
        tuple(int(n) for n in chosen),
        shades(_reduced(planes[chosen])),
    )


def first_filters(module: nn.Module) -> tuple[str, NDArray[np.uint8]]:
    """Return the name and the weights of the first convolution as pictures, each from its least value to its largest."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and part.weight.shape[1] in (1, 3):
            weights = part.weight.detach().cpu().float()
            pictures = np.stack([shades(one) for one in weights])
            return name, pictures.transpose(0, 2, 3, 1)
    return "", np.zeros((0, 1, 1, 1), np.uint8)


def shades(values: torch.Tensor) -> NDArray[np.uint8]:
    """Return values as uint8, the least as 0 and the largest as 255; all 0 where they are equal."""
    if not values.numel():
        return np.zeros(tuple(values.shape), np.uint8)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) * 255 if high > low else torch.zeros_like(values)
    return np.asarray(scaled.round().to(torch.uint8).numpy())


def _reduced(planes: torch.Tensor) -> torch.Tensor:
    factor = max(1, -(-max(planes.shape[1:], default=1) // SIDE_PX)) if len(planes) else 1
    return planes if factor == 1 else F.avg_pool2d(planes[None], factor, ceil_mode=True, count_include_pad=False)[0]


def _place(seen: dict[str, torch.Tensor], layer: str | None) -> str:
    maps = [name for name, value in seen.items() if value.ndim == 4 and value.shape[2] * value.shape[3] > 1 and value.requires_grad]
    if layer is None:
        if not maps:
            raise UsageError("no layer of this network has rows and columns, and Grad-CAM needs some")
        return maps[-1]
    if layer not in maps:
        raise UsageError(f"{layer!r} is no layer with rows and columns.{near(layer, maps)} Allowed are {', '.join(maps)}")
    return layer

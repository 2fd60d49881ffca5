"""What every stage of a pretrained network makes of the images: one pass, each map averaged to one number."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convsmith.data import batches
from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess
from convsmith.models.modes import in_evaluation
from convsmith.training.augmentation import to_input

BATCH = 32


@dataclass(frozen=True)
class Features:
    """Features of a split by stage, the first stage first.

    ``stages``: module path of each; ``images``: float32 ``(n, maps)`` by stage; ``mirrored``: the same of the mirror images, empty where
    they were not asked for. ``seconds``: of the whole pass.
    """

    stages: tuple[str, ...]
    images: dict[str, NDArray[np.float32]]
    mirrored: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64]
    seconds: float


def head_of(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the path of the last layer with weights that is no norm, and the layer: what tells the classes apart."""
    return [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]


def stages_of(network: nn.Module, preprocess: Preprocess) -> tuple[str, ...]:
    """Return the paths of the modules that end a stage: the last before the number of maps or their size changes, and the head's input.

    Modules one or two levels below the network count, in the order in which they answer.
    """
    head = head_of(network)[0]
    seen: list[tuple[str, tuple[int, ...]]] = []
    hooks = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
                seen.append((name, tuple(output.shape[1:])))

        return hook

    for name, part in network.named_modules():
        if name and name != head and _is_step(network, name, part):
            hooks.append(part.register_forward_hook(note(name)))
    try:
        _pass(network, torch.zeros(1, preprocess.height, preprocess.width, preprocess.channels, dtype=torch.uint8), preprocess)
    finally:
        for handle in hooks:
            handle.remove()
    before_head = [(name, shape) for name, shape in seen if not name.startswith(head.split(".")[0] + ".")] or seen
    followers: list[tuple[str, tuple[int, ...]]] = [*before_head[1:], ("", ())]
    ends = [name for (name, shape), (_, after) in zip(before_head, followers, strict=True) if shape != after]
    return tuple(ends)


def _is_step(network: nn.Module, name: str, part: nn.Module) -> bool:
    """Tell whether a module is one of the steps a network is made of: its child, or a child of a sequence."""
    owner, _, _ = name.rpartition(".")
    if not owner:
        return not isinstance(part, nn.Sequential)
    return "." not in owner and isinstance(network.get_submodule(owner), nn.Sequential)


def extract(
    network: nn.Module, split: Split, preprocess: Preprocess, stages: tuple[str, ...], *, mirror: bool = False, workers: int = 0
) -> Features:
    """Return the features of all images of a split at ``stages``; the network is left as it was."""
    begun = time.perf_counter()
    held: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            held[name] = output.float().mean((2, 3)).cpu() if output.dim() == 4 else output.float().cpu()

        return hook

    parts = dict(network.named_modules())
    hooks = [parts[name].register_forward_hook(keep(name)) for name in stages]
    found: list[dict[str, list[NDArray[np.float32]]]] = [{name: [] for name in stages} for _ in range(1 + mirror)]
    labels: list[NDArray[np.int64]] = []
    try:
        for x, y, _ in batches(split, preprocess, BATCH, workers=workers):
            labels.append(y)
            for turned, side in enumerate(found):
                x_nhwc = torch.from_numpy(x)
                _pass(network, x_nhwc.flip(2) if turned else x_nhwc, preprocess)
                for name in stages:
                    side[name].append(held[name].numpy())
    finally:
        for handle in hooks:
            handle.remove()
    joined = [{name: np.concatenate(pieces) for name, pieces in side.items()} for side in found]
    return Features(stages, joined[0], joined[1] if mirror else {}, np.concatenate(labels), time.perf_counter() - begun)


def _pass(network: nn.Module, x_nhwc: torch.Tensor, preprocess: Preprocess) -> None:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with in_evaluation(network), torch.inference_mode():
        network(to_input(x_nhwc.to(device), preprocess))


def extract_below(
    network: nn.Module, layer: str, split: Split, preprocess: Preprocess, *, mirror: bool = False, workers: int = 0
) -> Features:
    """Return what ``layer`` reads, for all images of a split, under the layer's own name."""
    inner = dict(network.named_modules())[layer]
    owner, _, last = layer.rpartition(".")
    holder = network.get_submodule(owner)
    probe = nn.Identity()
    setattr(holder, last, probe) if not isinstance(holder, nn.Sequential) else holder.__setitem__(int(last), probe)
    try:
        return extract(network, split, preprocess, (layer,), mirror=mirror, workers=workers)
    finally:
        setattr(holder, last, inner) if not isinstance(holder, nn.Sequential) else holder.__setitem__(int(last), inner)

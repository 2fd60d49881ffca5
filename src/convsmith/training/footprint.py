"""How much memory a training will take, from the network alone: nothing is computed, no image is read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.training import losses, planning
from convsmith.training.config import Training
from convsmith.training.feed import FULL_BATCH_PART
from convsmith.training.ledger import Ledger
from convsmith.training.network import device_of
from convsmith.training.optimizers import moments
from convsmith.training.scoring import fitting_batch
from convsmith.training.updates import Arithmetic

RUNTIME_BYTES: Final = 82_000_000
"""What libraries add to a process once they compute: code, compiled kernels, tables, threads."""

KEPT_OF_STEP: Final = 0.31
"""Freed memory that the allocator cannot give back, as a part of what the forward and backward pass hold at most."""

KEPT_OF_WEIGHTS: Final = 1.05
"""The same and oneDNN's reordered copies, as a part of the weights. All three were fitted: benchmarks/memory_prediction.py --calibrate."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Footprint:
    """The memory of a training at its peak, by what it is for.

    ``process_bytes``: the interpreter, the libraries and the weights of the network. ``copies_bytes``: a second set of weights (that of the
    trial of arithmetics, later the best ones) and running means. ``optimizer_bytes``: moments. ``gradient_bytes``: of all weights.
    ``step_bytes``: images, activations and scratch memory of one part of a batch. ``kept_bytes``: holes in the heap.
    ``data_bytes``: decoded images that stay in memory.
    """

    process_bytes: int
    copies_bytes: int
    optimizer_bytes: int
    gradient_bytes: int
    step_bytes: int
    data_bytes: int = 0

    @property
    def kept_bytes(self) -> int:
        return round(KEPT_OF_STEP * self.step_bytes + KEPT_OF_WEIGHTS * self.gradient_bytes)

    @property
    def tensor_bytes(self) -> int:
        return self.copies_bytes + self.optimizer_bytes + self.gradient_bytes + self.step_bytes

    @property
    def total_bytes(self) -> int:
        return self.process_bytes + RUNTIME_BYTES + self.tensor_bytes + self.kept_bytes + self.data_bytes


def footprint(
    module: nn.Module,
    preprocess: Preprocess,
    classes: int,
    config: Training | None = None,
    *,
    data_bytes: int = 0,
    val_images: int = 256,
    process_bytes: int | None = None,
) -> Footprint:
    """Return what training ``module`` in this process will take at its peak, on the processor.

    The network's operators are followed without data, forward and backward, in each arithmetic that the trial before a training tries. The
    module is left as it was. ``process_bytes``: what the process has already, by default what this one has now. ``val_images``: how many
    images a validation has, which may ask for more at once than an update.

    Raises: UsageError for a network that cannot read such images.
    """
    config = config or Training()
    weights = sum(map(_bytes, module.state_dict().values()))
    learned = sum(_bytes(parameter) for parameter in module.parameters() if parameter.requires_grad)
    steps = [step_bytes(module, preprocess, classes, config, arithmetic) for arithmetic in arithmetics(config)]
    judged = validation_bytes(module, preprocess, min(val_images, fitting_batch(preprocess))) if val_images else 0
    return Footprint(
        process_bytes=psutil.Process().memory_info().rss if process_bytes is None else process_bytes,
        copies_bytes=weights * (1 + 2 * bool(config.ema)),
        optimizer_bytes=learned * moments(config),
        gradient_bytes=learned,
        step_bytes=max(max(steps) - learned, judged - learned, 0),
        data_bytes=data_bytes,
    )


def arithmetics(config: Training) -> list[Arithmetic]:
    """Return the arithmetics that the trial before a training tries and that need most: bfloat16 never needs more than float32."""
    tried = planning.candidates(config, device_of(config))
    wide = [arithmetic for arithmetic in tried if arithmetic.precision == "float32"]
    return wide or list(tried)


def part_images(config: Training) -> int:
    """Return how many images are computed together."""
    batch = FULL_BATCH_PART if config.batch == "full" else config.batch
    return -(-batch // config.accumulate)


def step_bytes(module: nn.Module, preprocess: Preprocess, classes: int, config: Training, arithmetic: Arithmetic) -> int:
    """Return the most bytes that one part of an update holds at once, gradients of the weights included."""
    images = part_images(config)

    def learn(network: nn.Module) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic.precision == "bfloat16"):
            logits = network.train()(_pixels(images, preprocess, arithmetic.channels_last))
        loss = losses.per_image(logits, torch.zeros(images, dtype=torch.int64), config).sum()
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # not backward(): a mode holds every tensor it sees, and what is held is added by a copy
        return torch.autograd.grad(loss, learned, allow_unused=True)

    return _followed(module, learn, arithmetic.channels_last).peak_bytes


def validation_bytes(module: nn.Module, preprocess: Preprocess, images: int) -> int:
    """Return the most bytes that one batch of a validation holds at once."""

    def judge(network: nn.Module) -> object:
        with torch.no_grad():
            return network.eval()(_pixels(images, preprocess, True))

    return _followed(module, judge, True).peak_bytes


def _pixels(images: int, preprocess: Preprocess, channels_last: bool) -> torch.Tensor:
    """Return a batch as a network reads it, made from uint8 as `augmentation.to_input` does."""
    x_nhwc = torch.empty((images, preprocess.height, preprocess.width, preprocess.channels), dtype=torch.uint8)
    x_nchw = (x_nhwc.float() * 1.0).permute(0, 3, 1, 2)
    return x_nchw.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _followed(module: nn.Module, act: Callable[[nn.Module], object], channels_last: bool) -> Ledger:
    """Return the ledger of what ``act`` does with an empty copy of a network.

    Raises: UsageError when the network refuses its images.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = _hollow(module, torch.channels_last if channels_last else torch.contiguous_format)
        ledger = Ledger((*network.parameters(), *network.buffers()), reorders=not channels_last)
        with ledger:
            try:
                act(network)
            except RuntimeError as error:
                raise UsageError(f"the network cannot read such images: {error}") from error
    return ledger


def _hollow(module: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Return a copy of a network whose weights have shapes but no memory; to be called where tensors are fake."""
    memo: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=layout if tensor.ndim == 4 else torch.contiguous_format)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()

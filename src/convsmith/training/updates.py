"""One update of the weights: forward, backward, clip, step, mean."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError
from convsmith.precision.planned_optimizer import PlannedOptimizer
from convsmith.training import emulation, noise, optimizers
from convsmith.training.augmentation import Mixture, augmented, mixed
from convsmith.training.blocks import blocks
from convsmith.training.chance import key
from convsmith.training.config import Training
from convsmith.training.feed import Part
from convsmith.training.losses import distilled, mixed_per_image
from convsmith.training.processes import Team


@dataclass(frozen=True)
class Arithmetic:
    """How the network is computed: number format of the layers, memory layout and processor threads (0: torch's own number)."""

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    threads: int = 0

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return f"{self.precision}, {'NHWC' if self.channels_last else 'NCHW'}{threads}"


@dataclass
class Preparing:
    """Seconds in which the training itself, and not the threads that decode for it, brought images to the network."""

    copy_s: float = 0.0
    augment_s: float = 0.0


class Updater:
    """A network with its optimizer and running mean."""

    def __init__(
        self,
        module: nn.Module,
        config: Training,
        preprocess: Preprocess,
        weights: torch.Tensor | None,
        team: Team | None = None,
        axes: torch.Tensor | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        self.module, self.config, self.preprocess, self.axes = module, config, preprocess, axes
        self.teacher = teacher if config.distil else None
        self.wanted: torch.Tensor | None = None
        self.team = team or Team()
        self.device = next(module.parameters()).device
        self.weights = None if weights is None else weights.to(self.device)
        self.arithmetic = Arithmetic()
        self.blocks = blocks(module, config.transfer) if config.transfer.strategy != "none" else ()
        self._quiet = noise.attach(module, config)
        if config.drop_connect and self.team.size > 1:
            raise UsageError("drop_connect works in one process only; set drop_connect=0 or start without torchrun")
        self.emulated = None if config.plan is None else emulation.emulated(module, config, preprocess, self.device, self.team)
        inner = optimizers.build(module, config, self.blocks)
        constrain = functools.partial(optimizers.limit_norm, most=config.max_norm) if config.max_norm else None
        self.constrain = constrain if self.emulated is None else None
        self.optimizer = inner if self.emulated is None else PlannedOptimizer(inner, self.emulated, constrain)
        self.anchors = [(p, p.detach().clone()) for block in self.blocks[:-1] for p in block.parameters] if config.transfer.anchor else []
        self.ema = optimizers.Ema(module, config.ema) if config.ema else None
        self.first = {name: value.detach().clone() for name, value in module.state_dict().items()} if config.transfer.blend else None
        self.preparing = Preparing()
        self._network: nn.Module = self.emulated or module

    def compute_in(self, arithmetic: Arithmetic) -> None:
        """Change number format, memory layout and threads; the values of the weights stay."""
        self.arithmetic = arithmetic
        if arithmetic.threads:
            torch.set_num_threads(arithmetic.threads)
        self.module.to(memory_format=torch.channels_last if arithmetic.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
        self._network = self.emulated or self.team.wrap(self.module)

    def update(self, parts: Iterable[Part], count: int, size: int, step: int, rate: float, progress: float = 1.0) -> tuple[float, int]:
        """Do update number ``step`` with ``count`` parts of a batch of ``size`` images in all; return sums of loss and of correct answers.

        The gradient is that of the mean loss of the whole batch. Dropout draws from (seed, step, process). ``progress``, 0 to 1, opens the
        blocks of a transfer strategy.
        """
        torch.manual_seed(int(key(3, self.config.seed, step, self.team.rank) >> 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
            if self.config.momentum_start is not None:
                group["momentum"] = momentum(self.config, progress)
        self._open(progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum, correct = torch.zeros((), device=self.device), torch.zeros((), dtype=torch.int64, device=self.device)
        for number, part in enumerate(parts, 1):
            alone = self.team.size > 1 and number < count and self.emulated is None
            with self._network.no_sync() if alone else nullcontext():  # type: ignore[operator]
                logits, labels, mixture = self.forward(part)
                with nullcontext() if self.emulated is None else self.emulated.loss():
                    losses = mixed_per_image(logits, labels, mixture, self.config, self.weights)
                    losses = (losses if self.wanted is None else distilled(losses, logits, self.wanted, self.config)).sum()
                torch.autograd.backward(self._scaled(losses * (self.team.size / size)))
            loss_sum += losses.detach()
            correct += (logits.detach().argmax(1) == labels).sum()
        if isinstance(self.optimizer, PlannedOptimizer):
            self.team.average([p.grad for p in self.module.parameters() if p.grad is not None])
            self.optimizer.unscale()
        self._settle(progress)
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip)
        self.optimizer.step()
        if self.constrain is not None:
            with torch.no_grad():
                for parameter in self.module.parameters():
                    self.constrain(parameter)
        if self.emulated is not None:
            self.team.share_buffers(self.module)
        if self.ema:
            self.ema.update(self.module, step + 1)
        return float(loss_sum), int(correct)

    def _scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return self.optimizer.scale(loss) if isinstance(self.optimizer, PlannedOptimizer) else loss

    def _open(self, progress: float) -> None:
        """Let the blocks learn whose time has come; norms of the others keep their statistics."""
        for block in self.blocks:
            learns = block.learns(progress)
            for norm in block.norms:
                norm.train(learns and not self.config.transfer.freeze_norm)
            if self.team.size == 1:  # a team's wrapper knows its parameters once and for all
                for parameter in block.parameters:
                    parameter.requires_grad_(learns)

    def close(self) -> None:
        """Give back every parameter as trainable as it was, and the network without the noise of the training."""
        self._quiet()
        for block in self.blocks:
            for parameter in block.parameters:
                parameter.requires_grad_(True)

    def _settle(self, progress: float) -> None:
        """Drop the gradients of blocks that do not learn yet, and add the pull of the anchors."""
        for block in self.blocks:
            if not block.learns(progress):
                for parameter in block.parameters:
                    parameter.grad = None
        for parameter, start in self.anchors:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self.config.transfer.anchor)

    def answering(self) -> Mapping[str, torch.Tensor]:
        """Return the weights that are validated and kept: the last or their running mean, blended with the first where that is asked for.

        References: Wortsman et al. 2022, Robust fine-tuning of zero-shot models, arXiv 2109.01903, section 3.
        """
        last: Mapping[str, torch.Tensor] = self.ema.weights if self.ema else self.module.state_dict()
        if self.first is None:
            return last
        share, first = self.config.transfer.blend, self.first
        return {name: torch.lerp(value, first[name], share) if value.is_floating_point() else value for name, value in last.items()}

    def forward(self, part: Part) -> tuple[torch.Tensor, torch.Tensor, Mixture | None]:
        """Return logits and labels of one part as the network sees it in training, and what was mixed into its images.

        What the teacher says of the same images stays in ``wanted``.
        """
        x_nchw, mixture = self._prepared(part)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arithmetic.precision == "bfloat16"):
            drop = self.config.drop_connect
            logits = noise.with_dropped_connections(self.module, drop, x_nchw) if drop else self._network(x_nchw)
            if self.teacher is not None:
                with torch.no_grad():
                    self.wanted = self.teacher(x_nchw)
        return logits, part.labels.to(self.device, non_blocking=True), mixture

    def _prepared(self, part: Part) -> tuple[torch.Tensor, Mixture | None]:
        """Return the images of a part as the network reads them, and what was mixed into them."""
        began = time.perf_counter()
        x_nhwc = part.x_nhwc.to(self.device, non_blocking=True)
        copied = time.perf_counter()
        seed, epoch, augment = self.config.seed, part.epoch, self.config.augment
        x_nchw = augmented(
            x_nhwc,
            part.indices,
            augment,
            self.preprocess,
            seed=seed,
            epoch=epoch,
            channels_last=self.arithmetic.channels_last,
            axes=self.axes,
            placed=part.placed,
        )
        x_nchw, mixture = mixed(x_nchw, part.indices, augment, seed=seed, epoch=epoch)
        self.preparing.copy_s += copied - began
        self.preparing.augment_s += time.perf_counter() - copied
        return x_nchw, mixture

    def take_preparing(self) -> Preparing:
        """Return what bringing the images took since this was asked last; on a GPU the time to ask for it, not that of the work."""
        taken, self.preparing = self.preparing, Preparing()
        return taken


def momentum(config: Training, progress: float) -> float:
    """Return the momentum at a progress of the run, 0 to 1: a straight line from ``momentum_start``, then constant."""
    begin = config.momentum if config.momentum_start is None else config.momentum_start
    return begin + (config.momentum - begin) * min(1.0, progress / config.momentum_rise)

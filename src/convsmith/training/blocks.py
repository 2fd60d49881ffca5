"""A network as blocks from the bottom to the head, each with its own factor of the learning rate and moment to begin.

References: Howard, Ruder 2018, ULMFiT, arXiv 1801.06146 (unfreezing from the top, discriminative rates); Kumar et al. 2022, LP-FT,
arXiv 2202.10054 (head first); Li, Grandvalet, Davoine 2018, L2-SP, arXiv 1802.01483.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convsmith.training.features import head_of
from convsmith.training.transfer import FACTORS, THIRDS, Transfer


@dataclass(frozen=True)
class Block:
    """Parameters that learn at ``factor`` of the learning rate from ``since`` on, a part of the run; ``norms`` lie among them."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    norms: tuple[_BatchNorm, ...]
    factor: float
    since: float

    def learns(self, progress: float) -> bool:
        return self.factor > 0 and progress >= self.since


def blocks(module: nn.Module, transfer: Transfer) -> tuple[Block, ...]:
    """Return the blocks of a network, the head last; a block is what shares the first two parts of its module path.

    Unfreezing from the top: with ``head_first`` the top third begins at ``head_part``, the middle and the bottom at even distances after.
    """
    head = head_of(module)[0]
    named: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            named.setdefault(_place(name, head), []).append(parameter)
    norms: dict[str, list[_BatchNorm]] = {}
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            norms.setdefault(_place(f"{name}.weight", head), []).append(part)
    body = [name for name in named if name != head]
    found = []
    for place, name in enumerate(body):
        factor, since = _rate(place, len(body), transfer)
        found.append(Block(name, tuple(named[name]), tuple(norms.get(name, ())), factor, since))
    return (*found, Block(head, tuple(named.get(head, ())), (), 1.0, 0.0))


def _place(name: str, head: str) -> str:
    owner = name.rpartition(".")[0]
    return head if owner == head else ".".join(owner.split(".")[:2])


def third_of(place: int, count: int) -> int:
    """Return the third that block ``place`` of ``count`` below the head belongs to; 0 is the top."""
    return min(2, 3 * (count - 1 - place) // count)


def _rate(place: int, count: int, transfer: Transfer) -> tuple[float, float]:
    """Return the factor and the beginning of block ``place`` of ``count`` below the head, counted from the bottom."""
    third = third_of(place, count)
    factor = FACTORS[transfer.strategy][third]
    if transfer.strategy == "surgical" and THIRDS[third] == transfer.block:
        factor = 1.0
    if transfer.layer_decay < 1 and factor:
        factor = transfer.layer_decay ** (count - place)
    if transfer.strategy != "head_first":
        return factor, 0.0
    return factor, transfer.head_part + third * (1 - transfer.head_part) / 4

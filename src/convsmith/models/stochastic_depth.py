"""Whole residual branches left out at random while a network is trained."""

from __future__ import annotations

from torch import Tensor, nn


class BranchDrop(nn.Module):
    """Set a branch to zero for a share ``p`` of the images in training and scale the others by 1 / (1 - p); else the identity.

    References: Huang, Sun, Liu, Sedra, Weinberger 2016, Deep networks with stochastic depth, arXiv 1603.09382, equation 2; scaled in
    training instead of in use, so that a trained network is the plain one.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x_nchw: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x_nchw
        kept = x_nchw.new_empty((len(x_nchw), 1, 1, 1)).bernoulli_(1 - self.p)
        return x_nchw * (kept / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p:g}"

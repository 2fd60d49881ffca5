"""Starting weights by the papers, drawn from torch's global generator, so that `torch.manual_seed` fixes them."""

from __future__ import annotations

import math

from torch import Tensor, nn


def he(root: nn.Module, *, linear_std: float | None = None) -> None:
    """Draw every convolution of `root` from N(0, 2 / fan_out) and set its bias to zero.

    fan_out is kernel area times output channels per group, so depthwise filters get the spread of their own nine inputs.
    Linear layers: N(0, `linear_std`), or N(0, 2 / fan_in) when it is None. Batch norm starts as the identity.

    References: He, Zhang, Ren, Sun 2015, Delving deep into rectifiers, arXiv 1502.01852, equation 14 (fan_out) and 10 (fan_in).
    """
    for module in root.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
            _zero(module.bias)
        elif isinstance(module, nn.Linear):
            std = math.sqrt(2 / module.in_features) if linear_std is None else linear_std
            nn.init.normal_(module.weight, 0.0, std)
            _zero(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def glorot(root: nn.Module) -> None:
    """Draw every linear layer and convolution of `root` from U(-a, a), a = sqrt(6 / (fan_in + fan_out)); biases zero.

    References: Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, equation 16.
    """
    for module in root.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            _zero(module.bias)


def normal(root: nn.Module, std: float) -> None:
    """Draw every linear layer and convolution of `root` from N(0, `std`^2); biases zero."""
    for module in root.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            _zero(module.bias)


def lecun(root: nn.Module) -> None:
    """Draw every linear layer and convolution of `root` from U(-2.4 / fan_in, 2.4 / fan_in); biases zero.

    References: LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition, appendix A.
    """
    for module in root.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 2.4 / math.prod(module.weight.shape[1:])
            nn.init.uniform_(module.weight, -bound, bound)
            _zero(module.bias)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)

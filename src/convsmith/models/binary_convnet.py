"""The ConvNet of BinaryConnect and BinaryNet, and VGG-small, its form without hidden linear layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.binary_mlp import Activation
from convsmith.models.initialisation import glorot
from convsmith.models.signs import Sign, SignConv2d, SignLinear


class BinaryConvNet(nn.Module):
    """Pairs of 3x3 convolutions, each pair with twice the channels and half the pixels, then linear layers; signs between all of them.

    The order is convolution, maximum of 2x2 in the second of a pair, batch norm, sign. ``hidden``: units of the linear layers before the
    last, whose result has a norm too where there are any; else the last layer has float32 weights and a bias. The first convolution reads
    pixels; ``binary_first``: with weights of one bit. ``activation``: ``relu`` in the place of signs is BinaryConnect's.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); sides divisible by 8.
    References: Courbariaux et al. 2016, arXiv 1602.02830, section 2.2 and the code of the paper; Zhang et al. 2018, LQ-Nets, arXiv
    1807.10029, section 5 (VGG-small).
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        widths: Sequence[int] = (128, 256, 512),
        hidden: Sequence[int] = (1024, 1024),
        binary_first: bool = True,
        activation: Activation = "hard_tanh",
    ) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for place, width in enumerate(widths):
            for second in (False, True):
                binary = binary_first or len(parts) > 0
                parts[f"conv{2 * place + second + 1}"] = _convolution(channels, width, pool=second, binary=binary, activation=activation)
                channels = width
        self.features = nn.Sequential(parts)
        self.flatten = nn.Flatten()
        units = channels * (input_size[0] >> len(widths)) * (input_size[1] >> len(widths))
        last: OrderedDict[str, nn.Module] = OrderedDict()
        for place, width in enumerate(hidden, 1):
            last[f"hidden{place}"] = nn.Sequential(
                OrderedDict(
                    [("linear", SignLinear(units, width, bias=False)), ("norm", nn.BatchNorm1d(width, eps=1e-4)), _last(activation)]
                )
            )
            units = width
        if hidden:
            last["output"] = nn.Sequential(
                OrderedDict(linear=SignLinear(units, classes, bias=False), norm=nn.BatchNorm1d(classes, eps=1e-4))
            )
        else:
            last["output"] = nn.Linear(units, classes)
        self.classifier = nn.Sequential(last)
        glorot(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.features(x_nchw)))
        return logits


def _last(activation: Activation) -> tuple[str, nn.Module]:
    return ("relu", nn.ReLU()) if activation == "relu" else ("sign", Sign())


def _convolution(channels: int, width: int, *, pool: bool, binary: bool, activation: Activation) -> nn.Sequential:
    kind = SignConv2d if binary else nn.Conv2d
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=kind(channels, width, 3, padding=1, bias=False))
    if pool:
        parts["pool"] = nn.MaxPool2d(2)
    parts["norm"] = nn.BatchNorm2d(width, eps=1e-4)
    parts.update([_last(activation)])
    return nn.Sequential(parts)

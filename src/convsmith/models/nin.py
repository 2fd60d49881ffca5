"""Network in Network: convolutions followed by 1x1 convolutions, and no linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he


class NetworkInNetwork(nn.Module):
    """Three multilayer-perceptron convolutions; the last has one map a class, averaged over the image.

    The sizes are those of the authors' CIFAR-10 configuration (192-160-96, 192-192-192, 192-192-classes). Unlike there the
    last map has no ReLU after it, so that scores may be negative.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Lin, Chen, Yan 2013, Network in network, arXiv 1312.4400, section 3 and figure 2.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_mlpconv(in_channels, 5, (192, 160, 96)),
            nn.MaxPool2d(3, 2, 1),
            nn.Dropout(dropout),
            *_mlpconv(96, 5, (192, 192, 192)),
            nn.AvgPool2d(3, 2, 1),
            nn.Dropout(dropout),
            *_mlpconv(192, 3, (192, 192)),
        )
        self.classifier = nn.Conv2d(192, classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.flatten(self.pool(self.classifier(self.features(x_nchw))))
        return logits


def _mlpconv(channels: int, kernel: int, widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
        channels, kernel = width, 1
    return layers

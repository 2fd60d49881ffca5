"""AlexNet in the one-weird-trick variant, with the parameter names of torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.pooling import average_to


class AlexNet(nn.Module):
    """Five convolutions and three linear layers on one column, without local response normalisation.

    At 224x224 the last map is 6x6; a larger one is averaged to 6x6, a smaller one makes the first linear layer smaller.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 63 pixels a side.

    References: Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool, (rows, columns) = average_to((_map_side(input_size[0]), _map_side(input_size[1])), (6, 6))
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * rows * columns, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x_nchw))))
        return logits


def _map_side(side: int) -> int:
    """Rows or columns of the last map."""
    side = (side - 7) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side

"""VGG, configurations A to E of the paper, with or without batch norm, with the parameter names of torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.pooling import average_to

# one digit a convolution (its kernel side), one group a stage of 64, 128, 256, 512, 512 maps: table 1 of the paper
CONFIGURATIONS: dict[str, str] = {
    "A": "3 3 33 33 33",
    "B": "33 33 33 33 33",
    "C": "33 33 331 331 331",
    "D": "33 33 333 333 333",
    "E": "33 33 3333 3333 3333",
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ended by a maximum, and three linear layers.

    At 224x224 the last map is 7x7; a larger one is averaged to 7x7, a smaller one makes the first linear layer smaller.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 32 pixels a side.

    References: Simonyan, Zisserman 2014, Very deep convolutional networks for large-scale image recognition, arXiv 1409.1556, table 1.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        configuration: str,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = in_channels
        for stage, width in zip(CONFIGURATIONS[configuration].split(), WIDTHS, strict=True):
            for digit in stage:
                kernel = int(digit)
                self.features.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2))
                if batch_norm:
                    self.features.append(nn.BatchNorm2d(width))
                self.features.append(nn.ReLU())
                channels = width
            self.features.append(nn.MaxPool2d(2))
        self.avgpool, (rows, columns) = average_to((input_size[0] // 32, input_size[1] // 32), (7, 7))
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(512 * rows * columns, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x_nchw))))
        return logits

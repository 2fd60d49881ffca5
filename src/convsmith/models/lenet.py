"""LeNet-5 for any input size."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import lecun


class LeNet5(nn.Module):
    """Convolve, average, convolve, average, convolve, then two linear layers, with tanh.

    Three simplifications to the paper, as in every modern version: S2 and S4 average without trained coefficients (-44
    parameters), C3 sees all six maps instead of the table of connections (+900), and the output is linear, not fixed radial
    basis functions (+850). So the paper's 60,000 parameters become 61,706. C5 covers the whole map that S4 leaves (5x5 for
    32x32 pixels), so its size follows the input. Inputs of 28x28 are padded to 32x32, as the paper did.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 16 pixels a side.

    References: LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition, section II.B.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        padding = 2 if min(input_size) < 32 else 0
        self.c1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.tanh1 = nn.Tanh()
        self.s2 = nn.AvgPool2d(2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.tanh3 = nn.Tanh()
        self.s4 = nn.AvgPool2d(2)
        rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in input_size)
        self.c5 = nn.Conv2d(16, 120, (rows, columns))
        self.tanh5 = nn.Tanh()
        self.flatten = nn.Flatten()
        self.f6 = nn.Linear(120, 84)
        self.tanh6 = nn.Tanh()
        self.classifier = nn.Linear(84, classes)
        lecun(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x: Tensor = self.s2(self.tanh1(self.c1(x_nchw)))
        x = self.s4(self.tanh3(self.c3(x)))
        x = self.flatten(self.tanh5(self.c5(x)))
        logits: Tensor = self.classifier(self.tanh6(self.f6(x)))
        return logits

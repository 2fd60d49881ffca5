"""Convolutions that pad as TensorFlow does."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the output has ceil(input / stride) rows and columns.

    Where the padding is odd, the extra row or column is at the bottom or right: stride 2 on an even side pads (0, 1), not (1, 1).

    References: TensorFlow API guide of tf.nn, "Notes on padding".
    """

    def forward(self, x_nchw: Tensor) -> Tensor:
        top, bottom = self._pads(x_nchw.shape[2], 0)
        left, right = self._pads(x_nchw.shape[3], 1)
        if (top, left) == (bottom, right):
            return functional.conv2d(x_nchw, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = functional.pad(x_nchw, (left, right, top, bottom))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _pads(self, side: int, axis: int) -> tuple[int, int]:
        window = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        stride = self.stride[axis]
        total = max((-(-side // stride) - 1) * stride + window - side, 0)
        return total // 2, total - total // 2


def convolution(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, *, same: bool = False) -> nn.Conv2d:
    """Return a convolution without bias; `same` pads as TensorFlow, otherwise by half the kernel on every side."""
    kind = SameConv2d if same else nn.Conv2d
    return kind(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)

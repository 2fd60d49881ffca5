"""How a pretrained network wants its input, which no weight file says by itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from convsmith.data.preprocess import Preprocess
from convsmith.errors import UsageError, near

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Convention:
    """Input of a source: ``(pixel / 255 - mean) / std`` at ``height`` x ``width``.

    ``mean``, ``std``: of red, green, blue on the scale 0..1, whatever ``order`` the channels have in the source's first layer.
    ``padding``: ``same`` is TensorFlow's, whose stride-2 layers pad at the bottom and right only.
    """

    name: str
    mean: Triple
    std: Triple
    order: Literal["rgb", "bgr"] = "rgb"
    padding: Literal["symmetric", "same"] = "symmetric"
    height: int = 224
    width: int = 224

    def preprocess(self, size: int | tuple[int, int] | None = None, crop_fraction: float = 1.0) -> Preprocess:
        """Return the preprocessing of images for this source, red first, at another ``size`` when one is given.

        A source in the order blue, green, red reads it after the input channels of its first layer were turned round
        (`transplant` does it).
        """
        height, width = (self.height, self.width) if size is None else (size, size) if isinstance(size, int) else size
        return Preprocess(height, width, 3, "crop", crop_fraction, self.mean, self.std)

    def resized(self, height: int, width: int) -> Convention:
        """Return the same convention at another size."""
        return dataclasses.replace(self, height=height, width=width)

    def replaced(self, **fields: Any) -> Convention:
        """Return the convention with some fields changed."""
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Convention:
        """Return the convention of a side file: mean and std as three numbers each; the rest may be absent."""
        mean, std = (_triple(fields[key], key) for key in ("mean", "std"))
        return cls(**{"name": "side file", **fields, "mean": mean, "std": std})


def _triple(values: Any, key: str) -> Triple:
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ValueError(f"{key} is {values!r}; give three numbers, of red, green and blue on the scale 0..1")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


TORCHVISION = Convention("torchvision", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TENSORFLOW = Convention("tensorflow", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), padding="same")
CAFFE = Convention("caffe", (123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255), order="bgr")
KERAS = Convention("keras", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255), padding="same", height=32, width=32)

CONVENTIONS: dict[str, Convention] = {each.name: each for each in (TORCHVISION, TENSORFLOW, CAFFE, KERAS)}


def find(name: str) -> Convention:
    """Return the convention of that name; `UsageError` with the nearest otherwise."""
    if name not in CONVENTIONS:
        raise UsageError(f"no input convention {name!r}; there are {', '.join(CONVENTIONS)}.{near(name, CONVENTIONS)}")
    return CONVENTIONS[name]

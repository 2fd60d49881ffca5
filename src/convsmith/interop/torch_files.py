"""TorchScript and ``torch.export`` files that read pixels: preprocessing and softmax inside, labels and the rest in their metadata."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from convsmith.data.preprocess import Preprocess, affine
from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Graph
from convsmith.interop import pytorch

FIELDS: Final = "convsmith.json"
Run = Callable[[Any], list[Any]]


class Pixels(nn.Module):
    """Crop, Pillow's bilinear resize, normalisation, a network, softmax: uint8 ``(n, h, w, channels)`` to ``(scores, logits)``.

    The resize sums 8-bit pixels times Pillow's 22-bit integer weights in float64, which is exact, and rounds as Pillow does. A crop is
    the same matrix with zeros outside, and black beside the image is weights that nothing is multiplied by, so that no size is ever a
    number in the trace.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.height, self.width, self.channels = preprocess.height, preprocess.width, preprocess.channels
        self.fraction = round(preprocess.crop_fraction * 1000) if preprocess.resize != "squash" else 0
        self.around, self.between = preprocess.resize == "fill", preprocess.resize == "half_crop"
        self.inverse_temperature = 1 / temperature
        for name, numbers in zip(("scale", "shift"), affine(preprocess), strict=True):
            self.register_buffer(name, torch.from_numpy(numbers.reshape(1, -1, 1, 1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.full((1,), image.shape[1]), torch.full((1,), image.shape[2])
        x = image.permute(0, 3, 1, 2).to(torch.float64)
        by_column = self.weights(columns, rows, image.shape[2], image.shape[1], self.width, self.height)
        x = self.rounded(torch.matmul(x, by_column.transpose(0, 1)))
        x = self.rounded(torch.matmul(self.weights(rows, columns, image.shape[1], image.shape[2], self.height, self.width), x))
        logits = self.network(x.to(torch.float32) * self.scale + self.shift)
        return torch.softmax(logits * self.inverse_temperature, 1), logits

    def rounded(self, sums: Tensor) -> Tensor:
        """Return sums in units of 2^-22 as whole pixels."""
        return torch.clamp(torch.floor((sums + 2097152.0) / 4194304.0), 0.0, 255.0)

    def weights(self, size: Tensor, other: Tensor, count: int, other_count: int, out: int, other_out: int) -> Tensor:
        """Return Pillow's integer weights along an axis: float64 ``(out, count)``; zero outside the box that is kept."""
        kept = size
        if self.fraction:
            part = torch.div(size * self.fraction, 1000, rounding_mode="floor")
            aspect = torch.div(other * (out * self.fraction), other_out * 1000, rounding_mode="floor")
            inside = torch.clamp(torch.minimum(part, aspect), min=1)
            around = torch.clamp(torch.maximum(part, aspect), min=1)
            kept = inside
            if self.around:
                kept = around
            if self.between:
                kept = torch.div(inside + around, 2, rounding_mode="floor")
        start = torch.div(size - kept, 2, rounding_mode="trunc")
        triangle = self.triangle(torch.arange(count) - start, kept, out)
        total = triangle.sum(1, keepdim=True)
        if self.around or self.between:  # the box may be longer than the axis, but never than what its aspect makes of the other one
            total = self.triangle(torch.arange(count + other_count * out // other_out + 1), kept, out).sum(1, keepdim=True)
        return torch.div(triangle * 8388608 + total, 2 * total, rounding_mode="floor").to(torch.float64)

    def triangle(self, x: Tensor, kept: Tensor, out: int) -> Tensor:
        """Return the filter in units of ``1 / (2 max(kept, out))`` at places of the box, whole numbers ``(out, len(x))``."""
        centre = (2 * torch.arange(out).unsqueeze(1) + 1) * kept
        reach = 2 * torch.clamp(kept, min=out)
        found = torch.clamp(reach - torch.abs((2 * x + 1) * out - centre), min=0)
        return torch.where((x >= 0) & (x < kept), found, torch.zeros_like(found))


def write_torchscript(graph: Graph, preprocess: Preprocess, fields: Mapping[str, str], path: Path) -> None:
    """Write a TorchScript file: the network traced, the preprocessing scripted, so that any size and batch goes in."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated in favour of torch.export, and tracing warns of every constant
        traced = cast(Any, torch.jit).trace(pytorch.write(graph).eval(), _example(preprocess), check_trace=False)
        whole = torch.jit.script(Pixels(traced, preprocess, float(fields["temperature"])).eval())
        torch.jit.save(torch.jit.freeze(whole), str(path), _extra_files={FIELDS: json.dumps(dict(fields))})


def write_exported(graph: Graph, preprocess: Preprocess, fields: Mapping[str, str], path: Path) -> None:
    """Write what ``torch.export`` makes of the network, with batch, height and width free.

    Raises: ``UnsupportedError`` where torch cannot follow the network for every batch.
    """
    whole = Pixels(pytorch.write(graph).eval(), preprocess, float(fields["temperature"])).eval()
    images = torch.zeros((2, 2 * preprocess.height + 3, 2 * preprocess.width + 5, preprocess.channels), dtype=torch.uint8)
    free = {axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "rows", "columns"))}
    try:
        with torch.no_grad():
            program = torch.export.export(whole, (images,), dynamic_shapes=(free,))
    except Exception as error:  # torch raises classes of its own that share no base
        raise UnsupportedError(f"torch.export cannot follow the network: {_first_line(error)}; export it to TorchScript or ONNX") from None
    torch.export.save(program, str(path), extra_files={FIELDS: json.dumps(dict(fields))})


def open_torchscript(path: Path, threads: int | None = None) -> tuple[Run, dict[str, str]]:
    """Return a function that runs a TorchScript file, and its metadata."""
    extra: dict[str, Any] = {FIELDS: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = cast(Any, torch.jit).load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"TorchScript cannot open {path.name}: {_first_line(error)}") from None
    return _runner(module, threads), _fields(extra[FIELDS])


def open_exported(path: Path, threads: int | None = None) -> tuple[Run, dict[str, str]]:
    """Return a function that runs a file of ``torch.export``, and its metadata."""
    extra: dict[str, Any] = {FIELDS: ""}
    try:
        module = torch.export.load(str(path), extra_files=extra).module()
    except Exception as error:  # a broken archive shows itself in many ways
        raise DataError(f"torch.export cannot open {path.name}: {_first_line(error)}") from None
    return _runner(module, threads), _fields(extra[FIELDS])


def _runner(module: Any, threads: int | None) -> Run:
    def run(images: Any) -> list[Any]:
        if threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            return [found.numpy() for found in module(torch.from_numpy(images.copy()))]

    return run


def _example(preprocess: Preprocess) -> Tensor:
    return torch.zeros((2, preprocess.channels, preprocess.height, preprocess.width))


def _fields(text: str | bytes) -> dict[str, str]:
    return cast(dict[str, str], json.loads(text)) if text else {}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

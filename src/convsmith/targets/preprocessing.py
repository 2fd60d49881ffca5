"""Crop, Pillow's bilinear resize and normalisation as ONNX nodes that give the bits of ``convsmith.data.preprocess``.

Pillow sums 8-bit pixels times 22-bit integer weights in 32-bit integers. A weight is split into three digits of 7, 8 and 7 bits, so each
pass is one integer matrix product of bytes (``MatMulInteger``) whose three results are put together and shifted: no rounding happens in
it, and no float copy of the photo is made. Bytes times signed bytes would be faster on some processors but saturates on those without
VNNI; bytes times bytes is exact on all.

References: Pillow ``src/libImaging/Resample.c`` (``precompute_coeffs``, ``normalize_coeffs_8bpc``, ``ImagingResampleInner``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convsmith.data.preprocess import Preprocess, affine

PREFIX = "preprocess/"
PRECISION_BITS = 22  # of Pillow for 8-bit images: 32 - 8 - 2


@dataclass
class Sketch:
    """ONNX nodes and constants under construction; every name starts with ``prefix``."""

    prefix: str = PREFIX
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append one node and return the name of its output, ``prefix + name``."""
        full = self.prefix + name
        self.nodes.append(helper.make_node(op, list(inputs), [full], name=full, **attributes))
        return full

    def constant(self, name: str, value: Sequence[int] | int | float | NDArray[Any], dtype: Any = np.int64) -> str:
        """Add a constant (once per name) and return its name."""
        full = self.prefix + name
        self.constants[full] = numpy_helper.from_array(np.asarray(value, dtype), full)
        return full


def sketch(preprocess: Preprocess, image: str = "image") -> tuple[Sketch, str]:
    """Return the nodes from ``image`` to the network's input, and the name of the latter.

    Shapes: ``image`` uint8 ``(n, h, w, channels)`` to float32 ``(n, channels, height, width)``.
    """
    s = Sketch()
    shape = s.op("Shape", "shape", image)
    height = s.op("Gather", "height", shape, s.constant("1", [1]))
    width = s.op("Gather", "width", shape, s.constant("2", [2]))
    x = image
    if preprocess.resize != "squash":
        x, height, width = _cut(s, preprocess, x, height, width)
    x = s.op("Transpose", "nchw", x, perm=[0, 3, 1, 2])
    x = _resize_width(s, preprocess, x, width)
    x = _resize_height(s, preprocess, x, height)
    # from 32-bit integers: OpenVINO takes bytes that are scaled and shifted for codes, and makes wrong ones of them before QuantizeLinear
    x = s.op("Cast", "pixels", x, to=TensorProto.FLOAT)
    scale, shift = affine(preprocess)
    per_channel = (1, preprocess.channels, 1, 1)
    x = s.op("Mul", "scaled", x, s.constant("scale", scale.reshape(per_channel), np.float32))
    return s, s.op("Add", "normalised", x, s.constant("shift", shift.reshape(per_channel), np.float32))


def _cut(s: Sketch, preprocess: Preprocess, x: str, height: str, width: str) -> tuple[str, str, str]:
    """Cut the box of ``data.preprocess.crop_box``, with its integer arithmetic, black where it reaches beyond the image."""
    sizes = {"rows": height, "columns": width}
    kept = {
        "rows": _side(s, preprocess, "rows", height, width, (preprocess.height, preprocess.width)),
        "columns": _side(s, preprocess, "columns", width, height, (preprocess.width, preprocess.height)),
    }
    if preprocess.resize != "crop":
        x, sizes = _padded(s, x, sizes, kept)
    if preprocess.resize != "fill" or preprocess.crop_fraction < 1:
        starts, ends = [], []
        for axis, size in sizes.items():
            rest = s.op("Sub", f"crop/{axis}_rest", size, kept[axis])
            starts.append(s.op("Div", f"crop/{axis}_start", rest, s.constant("crop/2", [2])))
            ends.append(s.op("Add", f"crop/{axis}_end", starts[-1], kept[axis]))
        start = s.op("Concat", "crop/start", *starts, axis=0)
        end = s.op("Concat", "crop/end", *ends, axis=0)
        x = s.op("Slice", "crop/cut", x, start, end, s.constant("crop/axes", [1, 2]))
    return x, kept["rows"], kept["columns"]


def _side(s: Sketch, preprocess: Preprocess, axis: str, size: str, other: str, wanted: tuple[int, int]) -> str:
    """Return the box's length along an axis; ``wanted``: the input's along this axis and the other."""
    fraction = round(preprocess.crop_fraction * 1000)
    part = s.op("Mul", f"crop/{axis}_part", size, s.constant(f"crop/{axis}_fraction", [fraction]))
    part = s.op("Div", f"crop/{axis}_of_size", part, s.constant("crop/1000", [1000]))
    aspect = s.op("Mul", f"crop/{axis}_aspect_part", other, s.constant(f"crop/{axis}_aspect", [wanted[0] * fraction]))
    aspect = s.op("Div", f"crop/{axis}_of_aspect", aspect, s.constant(f"crop/{axis}_divisor", [wanted[1] * 1000]))
    one = s.constant("crop/1", [1])
    if preprocess.resize == "fill":
        return s.op("Max", f"crop/{axis}", part, aspect, one)
    inside = s.op("Max", f"crop/{axis}", s.op("Min", f"crop/{axis}_least", part, aspect), one)
    if preprocess.resize == "crop":
        return inside
    both = s.op("Add", f"crop/{axis}_both", inside, s.op("Max", f"crop/{axis}_around", part, aspect, one))
    return s.op("Div", f"crop/{axis}_half", both, s.constant("crop/2", [2]))


def _padded(s: Sketch, x: str, sizes: dict[str, str], kept: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Put black beside the image, the odd line behind it, until each axis is as long as the box; return also how long they are now."""
    before, behind, long = [], [], {}
    for axis, size in sizes.items():
        long[axis] = s.op("Max", f"fill/{axis}", size, kept[axis])
        more = s.op("Sub", f"fill/{axis}_more", long[axis], size)
        before.append(s.op("Div", f"fill/{axis}_before", more, s.constant("crop/2", [2])))
        behind.append(s.op("Sub", f"fill/{axis}_behind", more, before[-1]))
    none = s.constant("fill/0", [0])
    pads = s.op("Concat", "fill/pads", none, *before, none, none, *behind, none, axis=0)
    return s.op("Pad", "fill/padded", x, pads, s.constant("fill/black", 0, np.uint8)), long


def _weights(s: Sketch, name: str, size: str, out: int) -> str:
    """Pillow's integer weights as three digits, high to low, one below the other: uint8 ``(3 * out, size)``.

    The triangle filter in units of ``1 / (2 max(size, out))`` has the integer values ``2 max(size, out) - |(2x+1) out - (2i+1) size|``,
    so each weight is one quotient of integers, rounded once; Pillow's doubles came out the same for every pair of sizes tested.
    """
    scalar = s.op("Squeeze", f"{name}/size", size)
    x = s.op("Range", f"{name}/x", s.constant("0", 0), scalar, s.constant("step", 1))
    x = s.op("Mul", f"{name}/x_scaled", x, s.constant(f"{name}/2_out", 2 * out))
    x = s.op("Add", f"{name}/x_centre", x, s.constant(f"{name}/out", out))
    centre = s.op("Mul", f"{name}/centre", s.constant(f"{name}/i", 2 * np.arange(out)[:, None] + 1), size)
    distance = s.op("Abs", f"{name}/distance", s.op("Sub", f"{name}/offset", x, centre))
    reach = s.op("Max", f"{name}/larger", size, s.constant(f"{name}/out", out))
    reach = s.op("Mul", f"{name}/reach", reach, s.constant("resize/2", [2]))
    triangle = s.op("Max", f"{name}/triangle", s.op("Sub", f"{name}/signed", reach, distance), s.constant("0", 0))
    total = s.op("ReduceSum", f"{name}/total", triangle, s.constant("resize/last", [-1]), keepdims=1)
    part, whole = (s.op("Cast", f"{name}/{key}_f64", value, to=TensorProto.DOUBLE) for key, value in (("part", triangle), ("whole", total)))
    return s.op("Cast", f"{name}/digits", _digits(s, name, part, whole), to=TensorProto.UINT8)


def _digits(s: Sketch, name: str, part: str, whole: str) -> str:
    """Divide by hand: three digits of ``round(2^22 part / whole)`` one below the other, the last of them rounded, so at most 128.

    In float64 every step is exact. Runtimes that compute in float32 are exact up to a ``whole`` of 2^16 (2,700 pixels to 224).
    """
    digits = []
    for digit, base in (("high", 1 << 7), ("middle", 1 << 8), ("low", 1 << 7)):
        part = s.op("Mul", f"{name}/{digit}_part", part, s.constant(f"resize/{base}_f64", base, np.float64))
        quotient = s.op("Div", f"{name}/{digit}_quotient", part, whole)
        if digit == "low":
            quotient = s.op("Add", f"{name}/low_half", quotient, s.constant("resize/half", 0.5, np.float64))
        digits.append(s.op("Floor", f"{name}/{digit}", quotient))
        if digit != "low":
            part = s.op("Sub", f"{name}/{digit}_rest", part, s.op("Mul", f"{name}/{digit}_taken", digits[-1], whole))
    return s.op("Concat", f"{name}/stacked", *digits, axis=0)


def _round(s: Sketch, name: str, sums: str, axis: int) -> str:
    """Put the three digits' sums (thirds of ``axis``) together, round to a pixel, clip: int32, 0 to 255.

    Carries go from the low digit up, so that no number exceeds a digit's sum: runtimes that compute in float32 stay exact for longer.
    """
    digits = [s.prefix + f"{name}/sum_{key}" for key in ("high", "middle", "low")]
    s.nodes.append(helper.make_node("Split", [sums], digits, name=f"{s.prefix}{name}/split", axis=axis, num_outputs=3))
    carry = s.op("Div", f"{name}/carry_low", digits[2], s.constant("resize/2^7", 1 << 7, np.int32))
    middle = s.op("Add", f"{name}/middle_sum", digits[1], carry)
    carry = s.op("Div", f"{name}/carry_middle", middle, s.constant("resize/2^8", 1 << 8, np.int32))
    total = s.op("Add", f"{name}/high_sum", digits[0], carry)
    total = s.op("Add", f"{name}/high_sum_half", total, s.constant("resize/2^6", 1 << 6, np.int32))
    pixel = s.op("Div", f"{name}/pixel", total, s.constant("resize/2^7", 1 << 7, np.int32))
    return s.op("Min", f"{name}/clipped", pixel, s.constant("resize/255", 255, np.int32))


def _resize_width(s: Sketch, preprocess: Preprocess, x: str, width: str) -> str:
    """Horizontal pass, first as in Pillow: uint8 ``(n, c, h, w)`` to ``(n, c, h, width)``."""
    weights = s.op("Transpose", "resize/columns/matrix", _weights(s, "resize/columns", width, preprocess.width), perm=[1, 0])
    pixels = _round(s, "resize/columns", s.op("MatMulInteger", "resize/columns/product", x, weights), 3)
    return s.op("Cast", "resize/columns/resized", pixels, to=TensorProto.UINT8)


def _resize_height(s: Sketch, preprocess: Preprocess, x: str, height: str) -> str:
    """Vertical pass on the rounded pixels of the horizontal one: uint8 ``(n, c, h, width)`` to int32 ``(n, c, height, width)``."""
    weights = _weights(s, "resize/rows", height, preprocess.height)
    return _round(s, "resize/rows", s.op("MatMulInteger", "resize/rows/product", weights, x), 2)

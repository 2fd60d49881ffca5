"""From torch's aten operators to ONNX nodes: pointwise functions, shapes and reductions; ``HANDLERS`` holds them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.interop import aten_layers
from convsmith.interop.aten_layers import Arguments, Handler
from convsmith.interop.recorder import Recorder

INT64_MAX = 2**63 - 1


def pointwise(op: str, attributes: Mapping[str, float] | None = None) -> Handler:
    """Return a handler for a function of one tensor."""
    return lambda recorder, a: recorder.emit(op, a.get("self") or a["input"], attributes=attributes)


def operand(recorder: Recorder, value: Any, part: str) -> str:
    """Return the name of a tensor, or of a new float32 scalar for a Python number."""
    return value if isinstance(value, str) else recorder.constant(part, float(value), "float32")


def binary(op: str) -> Handler:
    """Return a handler for a broadcasting function of two tensors, or of a tensor and a number."""

    def handle(recorder: Recorder, a: Arguments) -> str:
        other = a["other"] if "other" in a else a["exponent"]
        if a.get("alpha", 1) != 1:
            scale = operand(recorder, a["alpha"], "alpha")
            other = recorder.emit("Mul", operand(recorder, other, "other"), scale, part="scaled")
        if a.get("rounding_mode") is not None:
            raise UnsupportedError(f"division with rounding_mode {a['rounding_mode']!r}")
        return recorder.emit(op, operand(recorder, a["self"], "self"), operand(recorder, other, "other"))

    return handle


def reversed_subtract(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("Sub", operand(recorder, a["other"], "other"), a["self"])


def clip(low: float | None = None, high: float | None = None) -> Handler:
    """Return a handler for a clamp, with fixed limits where the operator has them in its name."""

    def handle(recorder: Recorder, a: Arguments) -> str:
        least = a.get("min_val", a.get("min", low))
        most = a.get("max_val", a.get("max", high))
        minimum = "" if least is None else recorder.constant("min", float(least), "float32")
        maximum = () if most is None else (recorder.constant("max", float(most), "float32"),)
        return recorder.emit("Clip", a["self"], minimum, *maximum)

    return handle


def silu(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("Mul", a["self"], recorder.emit("Sigmoid", a["self"], part="sigmoid"))


def gelu(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("Gelu", a["self"], approximate=str(a["approximate"]))


def leaky_relu(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("LeakyRelu", a["self"], alpha=float(a["negative_slope"]))


def elu(recorder: Recorder, a: Arguments) -> str:
    if a["scale"] != 1 or a["input_scale"] != 1:
        raise UnsupportedError("elu with scale or input_scale")
    return recorder.emit("Elu", a["self"], alpha=float(a["alpha"]))


def prelu(recorder: Recorder, a: Arguments) -> str:
    slope, rank = a["weight"], len(recorder.shapes[a["self"]])
    if recorder.shapes[slope] == (1,) or rank <= 2:
        return recorder.emit("PRelu", a["self"], slope)
    shape = recorder.integers("shape", *(-1,), *(1,) * (rank - 2))
    return recorder.emit("PRelu", a["self"], recorder.emit("Reshape", slope, shape, part="slope"))


def softmax(op: str) -> Handler:
    return lambda recorder, a: recorder.emit(op, a["self"], axis=int(a["dim"]))


def reduce(op: str) -> Handler:
    def handle(recorder: Recorder, a: Arguments) -> str:
        axes = a.get("dim")
        inputs = (a["self"],) if not axes and axes != 0 else (a["self"], recorder.integers("axes", *aslist(axes)))
        return recorder.emit(op, *inputs, keepdims=int(bool(a.get("keepdim", False))))

    return handle


def aslist(value: Any) -> Sequence[int]:
    return [value] if isinstance(value, int) else list(value)


def reshape(recorder: Recorder, a: Arguments) -> str:
    """Reshape to the traced output; at most one axis may depend on the batch."""
    target = recorder.out_shape or ()
    if target == recorder.shapes[a["self"]]:
        return str(a["self"])
    if target.count(-1) > 1:
        raise UnsupportedError(f"a reshape to {target}, where two axes depend on the batch")
    return recorder.emit("Reshape", a["self"], recorder.integers("shape", *target))


def flatten(recorder: Recorder, a: Arguments) -> str:
    source, target = recorder.shapes[a["self"]], recorder.out_shape or ()
    if target == source:
        return str(a["self"])
    if len(target) == 2 and target[0] == source[0] == -1:
        return recorder.emit("Flatten", a["self"], axis=1)
    return reshape(recorder, a)


def transpose(recorder: Recorder, a: Arguments) -> str:
    order = list(range(len(recorder.shapes[a["self"]])))
    first, second = int(a["dim0"]), int(a["dim1"])
    order[first], order[second] = order[second], order[first]
    return recorder.emit("Transpose", a["self"], perm=tuple(order))


def permute(recorder: Recorder, a: Arguments) -> str:
    rank = len(recorder.shapes[a["self"]])
    return recorder.emit("Transpose", a["self"], perm=tuple(int(d) % rank for d in a["dims"]))


def concatenate(recorder: Recorder, a: Arguments) -> str:
    return recorder.emit("Concat", *a["tensors"], axis=int(a["dim"]))


def stack(recorder: Recorder, a: Arguments) -> str:
    axis = int(a["dim"]) % (len(recorder.shapes[a["tensors"][0]]) + 1)
    axes = recorder.integers("axes", axis)
    return recorder.emit("Concat", *(recorder.emit("Unsqueeze", t, axes, part="unsqueeze") for t in a["tensors"]), axis=axis)


def slice_axis(recorder: Recorder, a: Arguments) -> str:
    source, target, axis = recorder.shapes[a["self"]], recorder.out_shape or (), int(a["dim"])
    start, stop, step = a["start"] or 0, a["end"], int(a["step"])
    stop = INT64_MAX if stop is None else stop
    if source == target and start == 0 and step == 1 and stop >= INT64_MAX // 2:
        return str(a["self"])
    limits = [recorder.integers(part, int(value)) for part, value in (("starts", start), ("ends", stop))]
    return recorder.emit("Slice", a["self"], *limits, recorder.integers("axes", axis), recorder.integers("steps", step))


def select(recorder: Recorder, a: Arguments) -> str:
    index = recorder.constant("index", int(a["index"]), "int64")
    return recorder.emit("Gather", a["self"], index, axis=int(a["dim"]))


def split(recorder: Recorder, a: Arguments) -> str:
    """Emit a ``Split``; the caller maps its outputs ``name:0``, ``name:1`` ... to the items that torch takes out."""
    axis = int(a["dim"])
    size = recorder.shapes[a["self"]][axis]
    if "chunks" in a:
        piece = -(-size // int(a["chunks"]))
        sizes = [min(piece, size - start) for start in range(0, size, piece)]
    elif isinstance(a.get("split_size"), int):
        piece = int(a["split_size"])
        sizes = [min(piece, size - start) for start in range(0, size, piece)]
    else:
        sizes = [int(s) for s in a.get("split_sizes") or a["split_size"]]
    if size < 0:
        raise UnsupportedError("a split along the batch axis")
    return recorder.emit("Split", a["self"], recorder.integers("split", *sizes), outputs=max(2, len(sizes)), axis=axis)


def pad(recorder: Recorder, a: Arguments) -> str:
    rank = len(recorder.shapes[a["self"]])
    amounts = [int(n) for n in (a.get("pad") or a.get("padding") or [])]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[a.get("mode", "constant")]
    before, after = [0] * rank, [0] * rank
    for position in range(len(amounts) // 2):
        before[rank - 1 - position], after[rank - 1 - position] = amounts[2 * position : 2 * position + 2]
    inputs = [a["self"], recorder.integers("pads", *before, *after)]
    if a.get("value"):
        inputs.append(recorder.constant("value", float(a["value"]), "float32"))
    return recorder.emit("Pad", *inputs, mode=mode)


def squeeze(recorder: Recorder, a: Arguments) -> str:
    source = recorder.shapes[a["self"]]
    given = range(len(source)) if "dim" not in a else [int(d) % len(source) for d in aslist(a["dim"])]
    axes = [axis for axis in given if source[axis] == 1]
    return recorder.emit("Squeeze", a["self"], recorder.integers("axes", *axes)) if axes else str(a["self"])


def unsqueeze(recorder: Recorder, a: Arguments) -> str:
    axis = int(a["dim"]) % (len(recorder.shapes[a["self"]]) + 1)
    return recorder.emit("Unsqueeze", a["self"], recorder.integers("axes", axis))


def expand(recorder: Recorder, a: Arguments) -> str:
    source, target = recorder.shapes[a["self"]], recorder.out_shape or ()
    if source == target:
        return str(a["self"])
    if any(t == -1 and s != -1 for s, t in zip(source[::-1], target[::-1], strict=False)):
        raise UnsupportedError(f"an expansion from {source} to {target}, along the batch")
    return recorder.emit("Expand", a["self"], recorder.integers("shape", *(1 if n == -1 else n for n in target)))


def nearest(recorder: Recorder, a: Arguments) -> str:
    source, target = recorder.shapes[a["input"]], recorder.out_shape or ()
    if any(t % s for s, t in zip(source[2:], target[2:], strict=True)):
        raise UnsupportedError(f"nearest upsampling from {source[2:]} to {target[2:]}: not a whole factor")
    scales = recorder.constant("scales", [1, 1, *(t / s for s, t in zip(source[2:], target[2:], strict=True))], "float32")
    return recorder.emit(
        "Resize", a["input"], "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def arange(recorder: Recorder, a: Arguments) -> str:
    return recorder.constant("values", np.arange(a.get("start", 0), a["end"], a.get("step", 1)), "int64")


def same(recorder: Recorder, a: Arguments) -> str:
    return str(a.get("self") or a.get("input"))


IDENTITIES = ("dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "detach", "detach_", "alias", "lift_fresh_copy", "to")

HANDLERS: dict[str, Handler] = {
    **aten_layers.HANDLERS,
    **dict.fromkeys(IDENTITIES, same),
    "relu": pointwise("Relu"),
    "sigmoid": pointwise("Sigmoid"),
    "tanh": pointwise("Tanh"),
    "hardswish": pointwise("HardSwish"),
    "hardsigmoid": pointwise("HardSigmoid", {"alpha": 0.16666667, "beta": 0.5}),
    "softplus": pointwise("Softplus"),
    "mish": pointwise("Mish"),
    "erf": pointwise("Erf"),
    "exp": pointwise("Exp"),
    "log": pointwise("Log"),
    "sqrt": pointwise("Sqrt"),
    "abs": pointwise("Abs"),
    "neg": pointwise("Neg"),
    "floor": pointwise("Floor"),
    "ceil": pointwise("Ceil"),
    "round": pointwise("Round"),
    "sign": pointwise("Sign"),
    "reciprocal": pointwise("Reciprocal"),
    "relu6": clip(0, 6),
    "hardtanh": clip(-1, 1),
    "clamp": clip(),
    "clamp_min": clip(),
    "silu": silu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "prelu": prelu,
    "softmax": softmax("Softmax"),
    "log_softmax": softmax("LogSoftmax"),
    "add": binary("Add"),
    "sub": binary("Sub"),
    "rsub": reversed_subtract,
    "mul": binary("Mul"),
    "div": binary("Div"),
    "pow": binary("Pow"),
    "minimum": binary("Min"),
    "maximum": binary("Max"),
    "mean": reduce("ReduceMean"),
    "sum": reduce("ReduceSum"),
    "amax": reduce("ReduceMax"),
    "amin": reduce("ReduceMin"),
    "view": reshape,
    "reshape": reshape,
    "_unsafe_view": reshape,
    "unflatten": reshape,
    "flatten": flatten,
    "transpose": transpose,
    "permute": permute,
    "cat": concatenate,
    "concat": concatenate,
    "stack": stack,
    "slice": slice_axis,
    "select": select,
    "split": split,
    "split_with_sizes": split,
    "chunk": split,
    "pad": pad,
    "constant_pad_nd": pad,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "upsample_nearest2d": nearest,
    "arange": arange,
}
VIEWS = frozenset(
    {"view", "reshape", "_unsafe_view", "unflatten", "flatten", "transpose", "permute", "slice", "select", "split"}
    | {"split_with_sizes", "chunk", "squeeze", "unsqueeze", "expand", "contiguous", "detach", "alias", "to"}
)

"""What each Caffe layer is in the operators of a ``Graph``."""

from __future__ import annotations

import math

import numpy as np

from convsmith.errors import DataError
from convsmith.graph import Attribute
from convsmith.interop.caffe_builder import Builder, Handler
from convsmith.interop.caffe_net import many, one, part
from convsmith.interop.caffe_wire import Message

LOSSES = (
    *("Accuracy", "SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss", "ContrastiveLoss", "MultinomialLogisticLoss"),
    *("SigmoidCrossEntropyLoss", "Silence", "HDF5Output"),
)
"""Layers of training, without an output that classifies."""


def sides(settings: Message, many_key: str, stem: str, default: int) -> tuple[int, int]:
    """Return (rows, columns) of a setting given once, once a side, or as ``<stem>_h`` and ``<stem>_w``."""
    given = [int(number) for number in many(settings, many_key)]
    both = (given * 2)[:2] if given else [default, default]
    return int(one(settings, f"{stem}_h", both[0])), int(one(settings, f"{stem}_w", both[1]))


def _windows(b: Builder, settings: Message, shape: tuple[int, ...]) -> dict[str, Attribute]:
    kernel = sides(settings, "kernel_size", "kernel", 0)
    if tuple(shape[2:]) != kernel:
        raise DataError(f"layer {b.name!r} has kernels of {kernel[0]}x{kernel[1]}, its array is {' x '.join(map(str, shape))}")
    pads, dilation = sides(settings, "pad", "pad", 0), sides(settings, "dilation", "dilation", 1)
    strides = sides(settings, "stride", "stride", 1)
    if min(strides) < 1 or min(dilation) < 1 or min(pads) < 0:
        raise DataError(f"layer {b.name!r} has stride {strides}, pad {pads}, dilation {dilation}")
    windows: dict[str, Attribute] = {"kernel_shape": kernel, "strides": strides, "pads": (*pads, *pads), "dilations": dilation}
    return windows | {"group": int(one(settings, "group", 1))}


def convolution(b: Builder, sources: list[str]) -> list[str]:
    settings, transposed = b.settings("convolution_param"), b.kind == "Deconvolution"
    biased = bool(one(settings, "bias_term", True))
    arrays = b.arrays(2 if biased else 1)
    w, group, maps = arrays[0], int(one(settings, "group", 1)), int(one(settings, "num_output", 0))
    if w.ndim != 4 or group < 1 or (w.shape[1] * group if transposed else w.shape[0]) != maps or w.shape[0] % group:
        raise DataError(f"layer {b.name!r} gives {maps} maps in {group} groups, its array is {' x '.join(map(str, w.shape))}")
    attributes = _windows(b, settings, w.shape)
    inputs = [b.weight("weight", w)]
    if biased:
        if arrays[1].size != maps:
            raise DataError(f"layer {b.name!r} has {arrays[1].size} biases for {maps} maps")
        inputs.append(b.weight("bias", arrays[1].reshape(-1)))
    op = "ConvTranspose" if transposed else "Conv"
    return [b.node(op, (source, *inputs), attributes) for source in sources]


def inner_product(b: Builder, sources: list[str]) -> list[str]:
    settings = b.settings("inner_product_param")
    biased, outputs = bool(one(settings, "bias_term", True)), int(one(settings, "num_output", 0))
    if one(settings, "axis", 1) != 1:
        raise b.refuse(f"axis {one(settings, 'axis', 1)}; allowed is 1")
    arrays = b.arrays(2 if biased else 1)
    turned = bool(one(settings, "transpose", False))
    w = arrays[0].reshape(arrays[0].shape[-2:]) if arrays[0].ndim >= 2 and arrays[0].size else arrays[0]
    if w.ndim != 2 or w.shape[1 if turned else 0] != outputs:
        raise DataError(f"layer {b.name!r} gives {outputs} numbers, its array is {' x '.join(map(str, arrays[0].shape))}")
    inputs = [b.weight("weight", w)]
    if biased:
        if arrays[1].size != outputs:
            raise DataError(f"layer {b.name!r} has {arrays[1].size} biases for {outputs} numbers")
        inputs.append(b.weight("bias", arrays[1].reshape(-1)))
    flat = sources[0] if sources[0] in b.matrices else b.node("Flatten", (sources[0],), {"axis": 1}, step="flatten")
    result = b.node("Gemm", (flat, *inputs), {"transB": 0 if turned else 1})
    b.matrices.add(result)
    return [result]


def pooling(b: Builder, sources: list[str]) -> list[str]:
    """Caffe rounds sizes up; its averages count the padding, but not what lies beyond it."""
    settings = b.settings("pooling_param")
    method = one(settings, "pool", "MAX")
    if method not in ("MAX", "AVE"):
        raise b.refuse(f"{method} pooling; allowed are MAX and AVE")
    if one(settings, "global_pooling", False):
        return [b.node("GlobalMaxPool" if method == "MAX" else "GlobalAveragePool", (sources[0],))]
    kernel, strides = sides(settings, "kernel_size", "kernel", 0), sides(settings, "stride", "stride", 1)
    pads = sides(settings, "pad", "pad", 0)
    if min(kernel) < 1 or min(strides) < 1 or min(pads) < 0 or any(p >= k for p, k in zip(pads, kernel, strict=True)):
        raise DataError(f"layer {b.name!r} pools {kernel} with stride {strides} and pad {pads}")
    if any(s > k for s, k in zip(strides, kernel, strict=True)):
        raise b.refuse(f"stride {strides} is larger than the window {kernel}")
    attributes: dict[str, Attribute] = {"kernel_shape": kernel, "strides": strides, "pads": (*pads, *pads), "ceil_mode": 1}
    if method == "MAX":
        return [b.node("MaxPool", (sources[0],), attributes)]
    return [b.node("AveragePool", (sources[0],), attributes | {"count_include_pad": 1})]


def relu(b: Builder, sources: list[str]) -> list[str]:
    slope = float(one(b.settings("relu_param"), "negative_slope", 0.0))
    return [b.node("LeakyRelu", (sources[0],), {"alpha": slope}) if slope else b.node("Relu", (sources[0],))]


def prelu(b: Builder, sources: list[str]) -> list[str]:
    slopes = b.arrays(1)[0].reshape(-1)
    shape = (1,) if one(b.settings("prelu_param"), "channel_shared", False) else (-1, 1, 1)
    return [b.node("PRelu", (sources[0], b.weight("slope", slopes.reshape(shape))))]


def plain(op: str) -> Handler:
    return lambda b, sources: [b.node(op, (sources[0],))]


def elu(b: Builder, sources: list[str]) -> list[str]:
    return [b.node("Elu", (sources[0],), {"alpha": float(one(b.settings("elu_param"), "alpha", 1.0))})]


def softmax(b: Builder, sources: list[str]) -> list[str]:
    return [b.node("Softmax", (sources[0],), {"axis": int(one(b.settings("softmax_param"), "axis", 1))})]


def local_response_norm(b: Builder, sources: list[str]) -> list[str]:
    settings, x = b.settings("lrn_param"), sources[0]
    size, alpha, beta = int(one(settings, "local_size", 5)), float(one(settings, "alpha", 1.0)), float(one(settings, "beta", 0.75))
    if size < 1 or size % 2 == 0:
        raise DataError(f"layer {b.name!r} normalises over {size} neighbours; allowed are odd numbers")
    if one(settings, "norm_region", "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
        return [b.node("LRN", (x,), {"size": size, "alpha": alpha, "beta": beta, "bias": float(one(settings, "k", 1.0))})]
    half = size // 2
    window: dict[str, Attribute] = {"kernel_shape": (size, size), "pads": (half,) * 4, "strides": (1, 1), "count_include_pad": 1}
    mean = b.node("AveragePool", (b.node("Mul", (x, x), step="squares"),), window, step="mean")
    scaled = b.node("Mul", (mean, b.constant("alpha", alpha)), step="scaled")
    shifted = b.node("Add", (scaled, b.constant("one", 1.0)), step="shifted")
    return [b.node("Mul", (x, b.node("Pow", (shifted, b.constant("power", -beta)), step="factor")))]


def batch_norm(b: Builder, sources: list[str]) -> list[str]:
    """The third array divides the first two: Caffe stores sums of a moving average."""
    mean, variance, *rest = b.arrays(2)
    total = float(rest[0].reshape(-1)[0]) if rest and rest[0].size else 1.0
    factor = np.float32(1 / total if total else 0.0)
    mean, variance = mean.reshape(-1) * factor, variance.reshape(-1) * factor
    if mean.shape != variance.shape or (variance < 0).any():
        raise DataError(f"layer {b.name!r} has {mean.size} means and {variance.size} variances, none of which may be negative")
    arrays = {"weight": np.ones_like(mean), "bias": np.zeros_like(mean), "running_mean": mean, "running_var": variance}
    names = [b.weight(part, array) for part, array in arrays.items()]
    eps = float(one(b.settings("batch_norm_param"), "eps", 1e-5))
    return [b.node("BatchNormalization", (sources[0], *names), {"epsilon": eps})]


def scale(b: Builder, sources: list[str]) -> list[str]:
    """A factor and perhaps a shift for each channel; the second half of a batch norm goes into that node."""
    settings = b.settings("scale_param" if b.kind == "Scale" else "bias_param")
    if len(sources) == 2:
        return [b.node("Mul" if b.kind == "Scale" else "Add", (sources[0], sources[1]))]
    if one(settings, "axis", 1) != 1 or one(settings, "num_axes", 1) not in (0, 1):
        raise b.refuse("axis and num_axes other than 1")
    biased = b.kind == "Scale" and bool(one(settings, "bias_term", False))
    arrays = b.arrays(2 if biased else 1)
    last = b.nodes[-1] if b.nodes else None
    if (
        b.kind == "Scale"
        and last is not None
        and last.op == "BatchNormalization"
        and last.outputs[0] == sources[0]
        and _alone(b, sources[0])
    ):
        if arrays[0].size != b.weights[last.inputs[1]].size:
            raise DataError(f"layer {b.name!r} scales {arrays[0].size} channels of {b.weights[last.inputs[1]].size}")
        b.weights[last.inputs[1]] = np.ascontiguousarray(arrays[0].reshape(-1), np.float32)
        if biased:
            b.weights[last.inputs[2]] = np.ascontiguousarray(arrays[1].reshape(-1), np.float32)
        return [sources[0]]
    columns = (-1,) if sources[0] in b.matrices else (-1, 1, 1)
    shape = () if arrays[0].size == 1 else columns
    if b.kind == "Bias":
        return [b.node("Add", (sources[0], b.weight("bias", arrays[0].reshape(shape))))]
    value = b.node("Mul", (sources[0], b.weight("weight", arrays[0].reshape(shape))), step="scale" if biased else "")
    return [b.node("Add", (value, b.weight("bias", arrays[1].reshape(shape))))] if biased else [value]


def _alone(b: Builder, value: str) -> bool:
    """Tell whether nothing but the present layer reads a value, whatever its blob's name."""
    names = [name for name, current in b.now.items() if current == value]
    in_place = many(b.layer, "top")
    return all(b.reads.count(name) == 1 or name in in_place for name in names)


def concat(b: Builder, sources: list[str]) -> list[str]:
    settings = b.settings("concat_param")
    result = b.node("Concat", tuple(sources), {"axis": int(one(settings, "axis", one(settings, "concat_dim", 1)))})
    if all(source in b.matrices for source in sources):
        b.matrices.add(result)
    return [result]


def slices(b: Builder, sources: list[str]) -> list[str]:
    settings, tops = b.settings("slice_param"), len(many(b.layer, "top"))
    points = [int(point) for point in many(settings, "slice_point")]
    axis = int(one(settings, "axis", one(settings, "slice_dim", 1)))
    if points and (len(points) != tops - 1 or points != sorted(set(points))):
        raise DataError(f"layer {b.name!r} is cut at {points} into {tops}")
    if not points:
        first = b.node("Split", (sources[0],), {"axis": axis, "num_outputs": tops}, count=tops)
        return [first] if tops == 1 else list(b.nodes[-1].outputs)
    found = []
    for number, (start, stop) in enumerate(zip([0, *points], [*points, np.iinfo(np.int64).max], strict=True)):
        ends = [
            b.weight(f"{word}{number}", np.array([value], np.int64)) for word, value in (("start", start), ("stop", stop), ("axis", axis))
        ]
        found.append(b.node("Slice", (sources[0], *ends), step=f"part{number}"))
    return found


def eltwise(b: Builder, sources: list[str]) -> list[str]:
    settings = b.settings("eltwise_param")
    operation, factors = one(settings, "operation", "SUM"), many(settings, "coeff")
    if factors and (operation != "SUM" or len(factors) != len(sources)):
        raise DataError(f"layer {b.name!r} has {len(factors)} coefficients for {len(sources)} inputs of {operation}")
    if any(factor != 1 for factor in factors):
        sources = [
            b.node("Mul", (source, b.constant(f"coeff{number}", float(factor))), step=f"scaled{number}")
            for number, (source, factor) in enumerate(zip(sources, factors, strict=True))
        ]
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[operation]
    result = sources[0]
    for number, source in enumerate(sources[1:], 2):
        result = b.node(op, (result, source), step="" if number == len(sources) else f"sum{number}")
    return [result]


def power(b: Builder, sources: list[str]) -> list[str]:
    """(shift + scale x) ^ power."""
    settings = b.settings("power_param")
    return [_affine(b, sources[0], settings, ("Pow", float(one(settings, "power", 1.0))))]


def _affine(b: Builder, value: str, settings: Message, last: tuple[str, float] | None) -> str:
    steps = [("Mul", float(one(settings, "scale", 1.0)), 1.0), ("Add", float(one(settings, "shift", 0.0)), 0.0)]
    steps += [(last[0], last[1], 1.0)] if last else []
    for op, number, neutral in steps:
        if number != neutral:
            value = b.node(op, (value, b.constant(op.lower(), number)), step=op.lower())
    return value


def exponential(b: Builder, sources: list[str]) -> list[str]:
    """Base ^ (shift + scale x); base -1 is e."""
    settings = b.settings("exp_param")
    value, base = _affine(b, sources[0], settings, None), float(one(settings, "base", -1.0))
    if base != -1 and base <= 0:
        raise DataError(f"layer {b.name!r} has the base {base}")
    if base != -1:
        value = b.node("Mul", (value, b.constant("log_base", math.log(base))), step="exponent")
    return [b.node("Exp", (value,))]


def logarithm(b: Builder, sources: list[str]) -> list[str]:
    """Logarithm of (shift + scale x); base -1 is e."""
    settings = b.settings("log_param")
    value, base = b.node("Log", (_affine(b, sources[0], settings, None),), step="log"), float(one(settings, "base", -1.0))
    if base != -1 and (base <= 0 or base == 1):
        raise DataError(f"layer {b.name!r} has the base {base}")
    return [value if base == -1 else b.node("Mul", (value, b.constant("per_log_base", 1 / math.log(base))))]


def flatten(b: Builder, sources: list[str]) -> list[str]:
    settings = b.settings("flatten_param")
    if one(settings, "axis", 1) != 1 or one(settings, "end_axis", -1) != -1:
        raise b.refuse("axes other than 1 to the last")
    result = b.node("Flatten", (sources[0],), {"axis": 1})
    b.matrices.add(result)
    return [result]


def reshape(b: Builder, sources: list[str]) -> list[str]:
    settings = b.settings("reshape_param")
    shape = [int(side) for side in many(part(settings, "shape"), "dim")]
    axis = int(one(settings, "axis", 0))
    if axis not in (0, 1) or one(settings, "num_axes", -1) != -1 or not shape:
        raise b.refuse("axis other than 0 and 1, or num_axes")
    target = [0] * axis + shape
    if target[0] > 0:  # a batch of the description's own size
        target[0] = 0 if -1 in target[1:] else -1
    result = b.node("Reshape", (sources[0], b.weight("shape", np.array(target, np.int64))))
    if len(target) == 2:
        b.matrices.add(result)
    return [result]


def dropout(b: Builder, sources: list[str]) -> list[str]:
    """Nothing in a test pass, unless the layer was told to scale there."""
    settings = b.settings("dropout_param")
    if one(settings, "scale_train", True):
        return [b.node("Dropout", (sources[0],))]
    return [b.node("Mul", (sources[0], b.constant("kept", 1 - float(one(settings, "dropout_ratio", 0.5)))))]


def split(b: Builder, sources: list[str]) -> list[str]:
    return [sources[0]] * len(many(b.layer, "top"))


HANDLERS: dict[str, Handler] = {
    "AbsVal": plain("Abs"),
    "BNLL": plain("Softplus"),
    "BatchNorm": batch_norm,
    "Bias": scale,
    "Concat": concat,
    "Convolution": convolution,
    "Deconvolution": convolution,
    "Dropout": dropout,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exponential,
    "Flatten": flatten,
    "InnerProduct": inner_product,
    "LRN": local_response_norm,
    "Log": logarithm,
    "PReLU": prelu,
    "Pooling": pooling,
    "Power": power,
    "ReLU": relu,
    "Reshape": reshape,
    "Scale": scale,
    "Sigmoid": plain("Sigmoid"),
    "Slice": slices,
    "Softmax": softmax,
    "Split": split,
    "TanH": plain("Tanh"),
}

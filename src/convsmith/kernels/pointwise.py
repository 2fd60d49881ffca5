"""Functions of single numbers in NumPy, as ONNX defines them; the type of the first input is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.kernels.windows import Array

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Function = Callable[[Inputs, Attributes], Array]


def of_one(function: Callable[[Array], Any]) -> Function:
    return lambda inputs, a: np.asarray(function(inputs[0]), inputs[0].dtype)


def of_two(function: Callable[[Array, Array], Any]) -> Function:
    return lambda inputs, a: np.asarray(function(inputs[0], inputs[1]))


def of_many(function: Callable[[Array, Array], Any]) -> Function:
    def handle(inputs: Inputs, a: Attributes) -> Array:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return np.asarray(result)

    return handle


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))`` without overflow: the exponent is never positive."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), x.dtype)


def gelu(inputs: Inputs, a: Attributes) -> Array:
    x = inputs[0]
    if a.get("approximate", "none") == "tanh":
        gate = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        gate = erf(x * math.sqrt(0.5))
    return np.asarray(0.5 * x * (1 + gate), x.dtype)


def clip(inputs: Inputs, a: Attributes) -> Array:
    x = inputs[0]
    for bound, function in zip(inputs[1:], (np.maximum, np.minimum), strict=False):
        x = x if bound is None else function(x, bound)
    return np.asarray(x)


def softmax(inputs: Inputs, a: Attributes) -> Array:
    axis = a.get("axis", -1)
    powers = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def log_softmax(inputs: Inputs, a: Attributes) -> Array:
    axis = a.get("axis", -1)
    shifted = inputs[0] - inputs[0].max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def hard_sigmoid(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(np.clip(a.get("alpha", 0.2) * inputs[0] + a.get("beta", 0.5), 0, 1))


def divide(x: Array, y: Array) -> Array:
    """Return the quotient; whole numbers are cut toward zero, as ONNX has it."""
    return x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype)


def modulo(inputs: Inputs, a: Attributes) -> Array:
    return np.asarray(np.fmod(*inputs) if a.get("fmod", 0) else np.mod(*inputs))


POINTWISE: dict[str, Function] = {
    "Relu": of_one(lambda x: np.maximum(x, 0)),
    "Sigmoid": of_one(sigmoid),
    "Tanh": of_one(np.tanh),
    "HardSwish": of_one(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "HardSigmoid": hard_sigmoid,
    "Softplus": of_one(softplus),
    "Mish": of_one(lambda x: x * np.tanh(softplus(x))),
    "Gelu": gelu,
    "LeakyRelu": lambda inputs, a: np.where(inputs[0] >= 0, inputs[0], a.get("alpha", 0.01) * inputs[0]),
    "Elu": lambda inputs, a: np.where(inputs[0] >= 0, inputs[0], a.get("alpha", 1.0) * np.expm1(np.minimum(inputs[0], 0))),
    "PRelu": lambda inputs, a: np.where(inputs[0] >= 0, inputs[0], inputs[1] * inputs[0]),
    "Clip": clip,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "Erf": of_one(erf),
    "Exp": of_one(np.exp),
    "Log": of_one(np.log),
    "Sqrt": of_one(np.sqrt),
    "Abs": of_one(np.abs),
    "Neg": of_one(np.negative),
    "Floor": of_one(np.floor),
    "Ceil": of_one(np.ceil),
    "Round": of_one(np.rint),
    "Sign": of_one(np.sign),
    "Reciprocal": of_one(lambda x: 1 / x),
    "Not": of_one(np.logical_not),
    "Identity": of_one(lambda x: x),
    "Dropout": of_one(lambda x: x),
    "Add": of_two(np.add),
    "Sub": of_two(np.subtract),
    "Mul": of_two(np.multiply),
    "Div": of_two(divide),
    "Pow": lambda inputs, a: np.asarray(inputs[0] ** inputs[1], inputs[0].dtype),
    "Mod": modulo,
    "Equal": of_two(np.equal),
    "Less": of_two(np.less),
    "Greater": of_two(np.greater),
    "And": of_two(np.logical_and),
    "Or": of_two(np.logical_or),
    "Where": lambda inputs, a: np.asarray(np.where(*inputs)),
    "Min": of_many(np.minimum),
    "Max": of_many(np.maximum),
}

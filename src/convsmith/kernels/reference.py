"""Every network operator in NumPy: slow, short, and the specification of the fast ones.

Arrays keep their type: float32 in, float32 out, and float64 for oracles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convsmith.kernels import integer_operators, layers, sign_operators
from convsmith.kernels.arrays import ARRAYS
from convsmith.kernels.pointwise import POINTWISE
from convsmith.kernels.windows import Array

Operator = Callable[[Sequence[Any], Mapping[str, Any]], Any]

OPERATORS: dict[str, Operator] = {
    **POINTWISE,
    **ARRAYS,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Gemm": layers.gemm,
    "MatMul": lambda inputs, a: inputs[0] @ inputs[1],
    "MaxPool": layers.max_pool,
    "AveragePool": layers.average_pool,
    "GlobalAveragePool": lambda inputs, a: inputs[0].mean(axis=(2, 3), keepdims=True),
    "GlobalMaxPool": lambda inputs, a: inputs[0].max(axis=(2, 3), keepdims=True),
    "BatchNormalization": layers.batch_norm,
    "LayerNormalization": layers.layer_norm,
    "LRN": layers.local_response_norm,
    "Resize": layers.resize,
    "QuantizeLinear": integer_operators.quantize_linear,
    "DequantizeLinear": integer_operators.dequantize_linear,
}


def run(op: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> tuple[Array, ...]:
    """Return the outputs of one operator; ``KeyError`` when there is none of that name."""
    own = OPERATORS.get(op) or integer_operators.OPERATORS.get(op) or sign_operators.OPERATORS[op]
    result = own(inputs, attributes)
    return result if isinstance(result, tuple) else (result,)

"""One network of codes in several engines on the same images: whether they agree bit for bit, and if not, in which layers and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from convsmith.compiler.lowering import simplify
from convsmith.compiler.program import build
from convsmith.graph import Graph, Value, infer_shapes
from convsmith.interop import onnx
from convsmith.kernels import reference
from convsmith.targets import onnxruntime_run

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]

REASONS: Final[dict[str, str]] = {
    "IntegerAdd": "it adds codes in another order of float32 operations",
    "IntegerAveragePool": "it averages codes in another order of float32 operations",
    "LookUp": "it computes the function of a code in float32 by another formula",
    "QuantizeLinear": "it computed the numbers before in float32, whose sums have another order",
    "Concat": "it brings codes to a common step by another formula",
}
"""Why ONNX Runtime may give the next code at a tie."""


def compare_engines(graph: Graph, x_nchw: Array, others: Mapping[str, Run] | None = None, *, threads: int | None = None) -> dict[str, Any]:
    """Run a network of codes in the native engine, in ONNX Runtime on the QDQ file, and in ``others``; return what differs.

    ``engines``: for each, how many of the images have logits of other bits than the native engine's, the largest difference, and how
    many another class. ``layers``: those whose codes differ in ONNX Runtime although their inputs are the same, how many, by how much, and
    why. ``text`` says it in a sentence. A graph without codes is compared as it is, and has no layers.
    """
    data = onnx.write(graph)
    expected = build(graph, threads=threads)(x_nchw)
    runs: dict[str, Run] = {**(others or {}), "onnxruntime": lambda x: onnxruntime_run(data, threads)[0](x)[0]}
    engines = [_compared(name, run(x_nchw), expected) for name, run in runs.items()]
    layers = differing_layers(graph, x_nchw, threads=threads)
    return {"images": len(x_nchw), "engines": engines, "layers": layers, "text": _text(len(x_nchw), engines, layers)}


def differing_layers(graph: Graph, x_nchw: Array, *, threads: int | None = None) -> list[dict[str, Any]]:
    """Return the layers whose codes ONNX Runtime computes otherwise from the same codes: node, operator, share, largest difference."""
    theirs = _codes_of_onnxruntime(graph, x_nchw, threads)
    simple = simplify(graph)
    values: dict[str, Array] = {simple.inputs[0].name: x_nchw}
    found = []
    for node in simple:
        inputs = [None if not name else theirs.get(name, values.get(name, simple.weights.get(name))) for name in node.inputs]
        values.update(zip(node.outputs, reference.run(node.op, inputs, node.attributes), strict=False))
        name = node.outputs[0]
        if name in theirs:
            difference = np.abs(values[name].astype(np.int16) - theirs[name].astype(np.int16))
            if difference.any():
                share = float((difference > 0).mean())
                reason = REASONS.get(node.op, "its sums before the code are rounded otherwise")
                found.append({"layer": node.name, "op": node.op, "share": share, "largest": int(difference.max()), "reason": reason})
    return found


def _codes_of_onnxruntime(graph: Graph, x_nchw: Array, threads: int | None) -> dict[str, Array]:
    """Return every tensor of codes that ONNX Runtime makes, as uint8 as the compiler has them."""
    made = [node for node in graph if node.op == "QuantizeLinear" and node.outputs[0] not in {v.name for v in graph.outputs}]
    if not made:
        return {}
    shapes = infer_shapes(graph)
    kinds = {node.name: str(graph.weights[node.inputs[2]].dtype) for node in made}
    more = tuple(Value(node.outputs[0], (-1, *shapes[node.outputs[0]][1:]), kinds[node.name]) for node in made)
    data = onnx.write(dataclasses.replace(graph, outputs=(*graph.outputs, *more)))
    outputs = onnxruntime_run(data, threads)[0](x_nchw)[len(graph.outputs) :]
    return {
        value.name: codes if codes.dtype == np.uint8 else (codes.astype(np.int16) + 128).astype(np.uint8)
        for value, codes in zip(more, outputs, strict=True)
    }


def _compared(name: str, logits: Array, expected: Array) -> dict[str, Any]:
    other = (logits.view(np.uint32) != expected.view(np.uint32)).reshape(len(expected), -1).any(axis=1)
    return {
        "engine": name,
        "different": int(other.sum()),
        "largest_difference": float(np.abs(logits - expected).max(initial=0.0)),
        "other_class": int((logits.argmax(1) != expected.argmax(1)).sum()),
    }


def _text(images: int, engines: list[dict[str, Any]], layers: list[dict[str, Any]]) -> str:
    parts = []
    for engine in engines:
        if not engine["different"]:
            parts.append(f"{engine['engine']} gives the bits of the native engine for all {images} images.")
            continue
        parts.append(
            f"{engine['engine']} gives other logits for {engine['different']} of {images} images, by at most "
            f"{engine['largest_difference']:.2g}, and another class for {engine['other_class']}."
        )
    if not layers and any(engine["different"] for engine in engines):
        parts.append(
            "All codes are the same; what is no code, such as the last layer's sums, is float32, whose operations have another order."
        )
    if layers:
        worst = max(layers, key=lambda layer: float(layer["share"]))
        parts.append(
            f"ONNX Runtime computes {len(layers)} layers otherwise from the same codes, the most in {worst['layer']} "
            f"({100 * worst['share']:.2g} % of its codes, by at most {worst['largest']}): {worst['reason']}."
        )
    return "\n".join(parts)

"""From a graph and the sizes of its inputs to steps: where every value lies, and which kernel writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from convsmith.compiler.choices import Choose
from convsmith.compiler.placement import Placement, placements
from convsmith.compiler.steps import UNARY, Step, loop_nest
from convsmith.compiler.views import Order, View, dense_strides, is_dense, memory_order, pixel_pitch, usual_order
from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, Shape, dying_values
from convsmith.kernels import ConvolutionShape, native

Array = np.ndarray[Any, Any]

ALONE: Final = 16384
"""Elements below which a step runs on one thread: handing it over would take longer."""


@dataclass(frozen=True)
class Weights:
    """Convolution weights KCRS under a name that says how they were made, to be prepared once for all sizes of images."""

    name: str
    w_kcrs: Array
    shape: ConvolutionShape
    algorithm: str


@dataclass(frozen=True)
class Layout:
    """The result of planning: steps, the sizes of the arena's buffers in floats, and the constants that steps refer to."""

    steps: tuple[Step, ...]
    buffers: tuple[int, ...]
    constants: tuple[Array | Weights, ...]


class Planner:
    """Builds the steps of one graph for one set of input shapes, node by node in order.

    ``shapes`` are those of every value, ``known`` the numbers that follow from shapes alone, ``choose`` the algorithm of a
    convolution, ``threads`` the most a step may use.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, Shape], known: Mapping[str, Array], choose: Choose, threads: int) -> None:
        self.graph, self.shapes, self.known, self.choose, self.threads = graph, shapes, known, choose, threads
        self.steps: list[Step] = []
        self._buffers: list[int] = []
        self._constants: list[Array | Weights] = []
        self._numbers: dict[Any, int] = {}
        self._values: dict[str, View] = {}
        self._outputs = {value.name: index for index, value in reversed(list(enumerate(graph.outputs)))}
        self._placements: Mapping[str, Placement] = placements(graph, shapes)
        self._concats: dict[str, View] = {}
        self._dying: tuple[str, ...] = ()
        for index, value in enumerate(graph.inputs):
            shape = shapes[value.name]
            self._values[value.name] = View("input", index, shape, dense_strides(shape))

    def plan(self, emitters: Mapping[str, Callable[[Planner, Node], None]]) -> Layout:
        """Return the steps; ``UnsupportedError`` names the node that none of the ``emitters`` can translate."""
        for node, dying in zip(self.graph, dying_values(self.graph), strict=True):
            if all(name in self.known for name in node.outputs):
                continue
            self._dying = dying
            try:
                emitters[node.op](self, node)
            except UnsupportedError as error:
                shown = ", ".join(str(self.shapes[name]) if name else "-" for name in node.inputs)
                raise UnsupportedError(
                    f"the native engine cannot run node {node.name!r} ({node.op}) on shapes {shown}: {error}; "
                    "export to ONNX or OpenVINO and run it there"
                ) from error
        self._dying = ()
        for index, value in enumerate(self.graph.outputs):
            self._write_output(index, value.name)
        return Layout(tuple(self.steps), tuple(self._buffers), tuple(self._constants))

    def value(self, name: str) -> View:
        """Return where a value lies; a weight becomes a constant of the program."""
        if name not in self._values:
            array = self.constant_array(name)
            if array is None:
                raise UnsupportedError(f"{name!r} is no float32 value")
            return self.constant(name, array)
        return self._values[name]

    def constant_array(self, name: str) -> Array | None:
        """Return the numbers of a weight, or of a value that follows from shapes, or None."""
        return self.graph.weights.get(name, self.known.get(name))

    def constant(self, name: str, array: Array) -> View:
        """Return a constant of the program; ``name`` says what it is, so that it is kept once."""
        if array.dtype.kind != "f":
            raise UnsupportedError(f"{name!r} has type {array.dtype}; the engine computes in float32")
        number = self._number(name, lambda: np.ascontiguousarray(array, np.float32))
        return View("constant", number, array.shape, dense_strides(array.shape))

    def raw(self, name: str, array: Array) -> View:
        """Return a constant whose bytes are kept as they are, filled up to whole floats."""
        number = self._number((name, "raw"), lambda: native.float_bytes(array))
        return View("constant", number, (0,), (1,))

    def prepared(self, weights: Weights) -> View:
        """Return the place of convolution weights in the layout of their algorithm."""
        key = (weights.name, weights.algorithm, weights.shape.in_channels, weights.shape.out_channels, weights.shape.groups)
        return View("constant", self._number(key, lambda: weights), (0,), (1,))

    def bind(self, name: str, view: View) -> None:
        """Say where a value lies; it may share a buffer with others."""
        self._values[name] = view

    def target(self, name: str, order: Order | None = None, dtype: str = "float32") -> View:
        """Return where to write a value of the graph, by default channels last; ``order`` only matters when nothing else decides.

        A part of a concatenation is written in its place there, an output of the graph straight into the array that is returned.
        """
        shape = self.shapes[name]
        order = usual_order(len(shape)) if order is None else order
        view = self._placed(name, dtype)
        if view is None and name in self._outputs:
            if dtype != "float32":
                raise UnsupportedError("it makes an output of codes; the engine returns float32")
            plain = View("output", self._outputs[name], shape, dense_strides(shape))
            view = plain if is_dense(plain, order) else None
        view = view or self.scratch(shape, order, dtype)
        self._values[name] = view
        return view

    def target_over(self, name: str, source: str) -> View:
        """Return where an elementwise step writes: over its operand when nothing else reads that, else in the same order of axes."""
        view = self._values.get(source)
        if view is None or view.shape != self.shapes[name]:
            return self.target(name)
        mine = [other for other, place in self._values.items() if place.space == "arena" and place.buffer == view.buffer]
        free = view.space == "arena" and mine == [source] and source in self._dying and is_dense(view)
        if free and name not in self._placements and name not in self._outputs:
            del self._values[source]
            self._values[name] = view
            return view
        return self.target(name, memory_order(view), view.dtype)

    def scratch(self, shape: Shape, order: Order | None = None, dtype: str = "float32") -> View:
        """Return a new array of the arena."""
        view = View("arena", len(self._buffers), shape, dense_strides(shape, order), 0, dtype)
        self._buffers.append(-(-view.size * view.itemsize // 4))
        return view

    def emit(self, step: Step) -> None:
        """Append a step; one of little work keeps to one thread. An empty target needs none."""
        if step.target.size:
            self.steps.append(step)

    def threads_for(self, elements: int) -> int:
        return self.threads if elements >= ALONE else 1

    def copy(self, node: Node, source: View, target: View) -> View:
        """Emit a copy and return its target."""
        sizes = loop_nest(target, (source,), least=2)
        threads = self.threads_for(target.size)
        kind = "copy" if target.dtype == "float32" else "integer_copy"
        self.emit(Step(kind, node.name, target, (source,), sizes, threads=threads, work=target.size, detail="copy"))
        return target

    def unary(self, node: Node, function: str, source: View, target: View, alpha: float = 0.0, beta: float = 0.0) -> None:
        """Emit a function of single elements."""
        sizes = (*loop_nest(target, (source,), least=1), UNARY.index(function))
        threads = self.threads_for(target.size)
        self.emit(Step("unary", node.name, target, (source,), sizes, (alpha, beta), "", threads, work=target.size, detail=function))

    def dense(self, node: Node, view: View, order: Order | None = None) -> View:
        """Return the view itself when it has no gaps and, if an order is asked for, that order; else a copy."""
        if is_dense(view, order):
            return view
        return self.copy(node, view, self.scratch(view.shape, memory_order(view) if order is None else order, view.dtype))

    def pixels(self, node: Node, view: View) -> View:
        """Return the view itself when it lies as NHWC, maybe as a slice of channels; else a copy that does."""
        return view if pixel_pitch(view) is not None else self.copy(node, view, self.scratch(view.shape, usual_order(4), view.dtype))

    def _number(self, key: Any, make: Callable[[], Array | Weights]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._constants)
            self._constants.append(make())
        return self._numbers[key]

    def concatenation(self, name: str, dtype: str) -> View:
        """Return where a concatenation lies; its parts ask for it before it is its turn."""
        if name not in self._concats:
            self._concats[name] = self.target(name, dtype=dtype)
        return self._concats[name]

    def _placed(self, name: str, dtype: str) -> View | None:
        """Return a value's slice of the concatenation that it is written into, or None."""
        placement = self._placements.get(name)
        if placement is None:
            return None
        whole, shape = self.concatenation(placement.concat, dtype), self.shapes[name]
        return replace(whole, shape=shape, offset=whole.offset + placement.first * whole.strides[placement.axis])

    def _write_output(self, index: int, name: str) -> None:
        source, shape = self.value(name), self.shapes[name]
        target = View("output", index, shape, dense_strides(shape))
        if source != target:
            node = next((node for node in self.graph if name in node.outputs), Node(name, "Identity", (name,), (name,)))
            self.copy(node, source, target)

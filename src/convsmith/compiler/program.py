"""A compiled network: one graph, an executable for each set of input shapes it has met."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convsmith.compiler import bands, store
from convsmith.compiler.choices import Chooser, Decisions
from convsmith.compiler.description import describe
from convsmith.compiler.emit import EMITTERS
from convsmith.compiler.executable import Executable
from convsmith.compiler.interpreter import check_inputs
from convsmith.compiler.lowering import fuse, simplify
from convsmith.compiler.planner import Layout, Planner
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Shape
from convsmith.graph.shapes import COMPUTED, infer
from convsmith.kernels import instruction_set, instruction_sets, processor_count
from convsmith.targets.shipment import Quantiser

Array = np.ndarray[Any, Any]


class Program:
    """A network that runs natively; call it with one float32 array an input, get one output or a tuple of them.

    Any batch, and any image size that the graph allows: the first call with new shapes plans anew, later ones find the plan.
    May be called from several threads at a time. ``chooser`` picks algorithms; ``metadata`` is kept in the file.
    """

    def __init__(self, graph: Graph, chooser: Chooser, threads: int, metadata: Mapping[str, str] | None = None) -> None:
        self.graph, self.threads, self.metadata = graph, threads, dict(metadata or {})
        self.level = chooser.level
        self._chooser = chooser
        self._executables: dict[tuple[Shape, ...], Executable] = {}
        self._prepared: dict[Any, Array] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Array) -> Any:
        arrays = [np.ascontiguousarray(array) for array in inputs]
        executable = self._executables.get(tuple(array.shape for array in arrays))
        if executable is None or any(array.dtype != np.float32 for array in arrays):
            executable = self._checked(arrays)
        outputs = executable(arrays)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def executable(self, *shapes: Shape) -> Executable:
        """Return what runs inputs of these shapes, planned now if it was not before."""
        with self._lock:
            if shapes not in self._executables:
                layout, outputs = self._layout(shapes)
                self._executables[shapes] = Executable(layout, shapes, outputs, self.level, self._prepared)
            return self._executables[shapes]

    def describe(self, *shapes: Shape) -> str:
        """Return the steps for inputs of these shapes, by default one image each, with algorithms, bytes and peak memory."""
        chosen = shapes or self.single()
        if chosen is None:
            raise UsageError(f"the inputs of {self.graph.name!r} have free sizes; give a shape for each, such as (1, 3, 224, 224)")
        return describe(self.graph.name, chosen, self.executable(*chosen), self.level, self.threads)

    def save(self, path: Path | str) -> None:
        """Write graph, weights, the tuner's decisions and metadata as one file; see docs/engine.md for its layout."""
        store.save(path, self.graph, self.decisions, self.metadata)

    @property
    def decisions(self) -> Decisions:
        """What was chosen by measuring, for each kind of layer."""
        return self._chooser.decisions

    def single(self) -> tuple[Shape, ...] | None:
        """Return the shapes of one image, or None when the graph leaves more than the batch free."""
        shapes = tuple(tuple(1 if axis == 0 and n == -1 else n for axis, n in enumerate(v.shape)) for v in self.graph.inputs)
        return None if any(-1 in shape for shape in shapes) else shapes

    def check(self) -> None:
        """Plan for one image, where the graph has a fixed size, so that what the engine lacks is named before anything runs."""
        single = self.single()
        if single is not None:
            # a graph may take batches of another size only; what is wrong with them is said when one comes
            with contextlib.suppress(UsageError):
                self._layout(single)

    def _layout(self, shapes: Sequence[Shape]) -> tuple[Layout, list[Shape]]:
        sizes = {value.name: shape for value, shape in zip(self.graph.inputs, shapes, strict=True)}
        values, known = infer(self.graph, 1, sizes)
        fused = fuse(self.graph, values)
        values = {**{name: array.shape for name, array in fused.weights.items()}, **values}
        layout = Planner(fused, values, known, self._chooser, self.threads).plan(EMITTERS)
        return bands.join(layout, self.threads), [values[value.name] for value in self.graph.outputs]

    def _checked(self, arrays: Sequence[Array]) -> Executable:
        check_inputs(self.graph, arrays)
        for value, array in zip(self.graph.inputs, arrays, strict=True):
            if array.dtype != np.float32:
                raise UsageError(
                    f"input {value.name!r} is {array.dtype}; the native engine takes float32 (x.astype('float32')), "
                    "compiler.interpret also float64"
                )
        return self.executable(*(array.shape for array in arrays))


def build(
    graph: Graph,
    plan: Quantiser | None = None,
    *,
    ranges: Any = None,
    tune: bool | float = False,
    accuracy: float | None = None,
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Program:
    """Compile a graph: fold and fuse, choose algorithms, plan memory; it then runs without torch, natively.

    ``plan``: which tensors become 8-bit integers, with the ``ranges`` of its activations on calibration images (``precision.calibrate`` of
    the graph with batch norm folded); a graph that has QuantizeLinear and DequantizeLinear needs none. Layers between codes are computed
    in integers, exactly as ``interpret`` computes them.
    ``tune``: choose algorithms by measuring each new layer on this machine, for at most that many seconds in all (True: until
    every choice is clear); what was measured before is remembered. ``accuracy``: the largest error that an algorithm may have,
    relative to the largest output of a layer. ``threads``: by default all processors.

    Raises: ``UnsupportedError`` naming every operator without a native kernel, or without the native module; ``UsageError``
    for arguments out of range.
    """
    threads = processor_count() if threads is None else threads
    if threads < 1:
        raise UsageError(f"threads is {threads}; give at least 1")
    if not instruction_sets():
        raise UnsupportedError("the native module is not built here; use compiler.interpret, or export to ONNX or OpenVINO")
    simple = simplify(graph if plan is None else plan.quantise(graph, ranges))
    refuse_unknown(simple)
    program = Program(simple, Chooser(threads, instruction_set(), tune=tune, accuracy=accuracy), threads, metadata)
    program.check()
    return program


def load(path: Path | str, *, threads: int | None = None) -> Program:
    """Open a file that ``Program.save`` wrote; its decisions hold on the processor and with the threads they were measured for.

    Raises: ``DataError`` for any other file, a broken one, or one of a newer version.
    """
    graph, decisions, metadata = store.load(path)
    threads = processor_count() if threads is None else threads
    return Program(graph, Chooser(threads, instruction_set(), decisions=decisions), threads, metadata)


def refuse_unknown(graph: Graph) -> None:
    """Raise ``UnsupportedError`` naming all that the engine cannot run; shape arithmetic is done while planning."""
    unknown = [f"{node.op} (node {node.name!r})" for node in graph if node.op not in EMITTERS and node.op not in COMPUTED]
    if unknown:
        raise UnsupportedError(f"no native kernel for {', '.join(unknown)}; export to ONNX or OpenVINO and run it there")
    for value in graph.inputs:
        if value.dtype != "float32":
            raise UnsupportedError(f"input {value.name!r} has type {value.dtype}; the native engine takes float32")

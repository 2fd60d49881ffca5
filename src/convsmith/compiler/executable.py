"""Steps handed to the native core, and run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from convsmith.compiler.memory import Arena, place_buffers
from convsmith.compiler.planner import Array, Layout, Weights
from convsmith.compiler.views import View
from convsmith.errors import DataError
from convsmith.graph import Shape
from convsmith.kernels import binary_convolution, integer_native, native

SPACES = {"arena": 0, "constant": 1, "input": 2, "output": 3}
ABSENT = (4, 0, 0)
"""``Space`` of native/program.h."""

PREPARE: Final[Mapping[str, Callable[..., Any]]] = {
    "float32": native.prepare,
    "uint8": integer_native.prepare,
    "binary": binary_convolution.prepare,
}
"""How weights are laid out, by the type in which a convolution sums."""


class Executable:
    """A program for one set of input shapes; safe to run from several threads."""

    def __init__(self, layout: Layout, inputs: Sequence[Shape], outputs: Sequence[Shape], level: str, prepared: dict[Any, Array]) -> None:
        self.steps, self.arena, self.outputs = layout.steps, place_buffers(layout.buffers, layout.steps), tuple(outputs)
        sizes = [[int(np.prod(shape, dtype=np.int64)) for shape in shapes] for shapes in (inputs, outputs)]
        self.constants = [self._constant(item, level, prepared) for item in layout.constants]
        self._native = importlib.import_module("convsmith._native").Program(level, self.arena.size, *sizes)
        for array in self.constants:
            self._native.constant(array)
        for step in self.steps:
            places = [place(view, self.arena) for view in (step.target, *step.operands, *step.scratch)]
            self._native.add(step.kind, step.algorithm, places, step.sizes, step.numbers, step.threads)

    @staticmethod
    def _constant(item: Array | Weights, level: str, prepared: dict[Any, Array]) -> Array:
        """Return the array; prepared weights are shared by all programs of a graph, whatever the sizes of their images."""
        if not isinstance(item, Weights):
            return item
        key = (item.name, item.algorithm, item.shape.in_channels, item.shape.out_channels, item.shape.groups)
        if key not in prepared:
            prepare = PREPARE[item.shape.dtype]
            prepared[key] = prepare(item.algorithm, item.w_kcrs, item.shape, level).values.view(np.float32)
        return prepared[key]

    def __call__(self, inputs: list[Array]) -> list[Array]:
        outputs = [np.empty(shape, np.float32) for shape in self.outputs]
        try:
            self._native.run(inputs, outputs)
        except ValueError as error:
            count = sum(int(np.isnan(array).sum()) for array in inputs)
            raise DataError(f"{error}, and NaN has no sign; {count} of the network's inputs are NaN") from None
        return outputs

    def seconds(self, inputs: list[Array], repeats: int) -> float:
        """Return the time of one run, of ``repeats`` without the interpreter between them."""
        outputs = [np.empty(shape, np.float32) for shape in self.outputs]
        return float(self._native.timed(inputs, outputs, repeats)) / repeats

    def profile(self, inputs: list[Array]) -> list[float]:
        """Return the seconds of each step of one run."""
        return list(self._native.profile(inputs, [np.empty(shape, np.float32) for shape in self.outputs]))


def place(view: View | None, arena: Arena) -> tuple[int, int, int]:
    """Return a view as ``Place`` of native/program.h, which counts bytes."""
    if view is None:
        return ABSENT
    offset = view.offset * view.itemsize
    if view.space == "arena":
        return SPACES["arena"], 0, 4 * arena.offsets[view.buffer] + offset
    return SPACES[view.space], view.buffer, offset

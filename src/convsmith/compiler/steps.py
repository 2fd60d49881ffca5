"""What a program is made of: steps as data, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from convsmith.compiler.views import View
from convsmith.errors import UnsupportedError

MOST_AXES: Final = 8
"""``kAxes`` of native/operators.h."""

UNARY: Final = (
    "relu", "clip", "leaky_relu", "elu", "sigmoid", "silu", "hard_sigmoid", "hard_swish", "tanh", "gelu", "gelu_tanh", "mish",
    "softplus", "erf", "exp", "log", "sqrt", "reciprocal", "abs", "neg", "floor", "ceil", "round", "sign",
)  # fmt: skip
"""In the order of ``Unary`` in native/operators.h."""

BINARY: Final = ("add", "sub", "mul", "div", "min", "max", "pow", "prelu")
"""In the order of ``Binary`` in native/operators.h."""

FOLDS: Final = ("sum", "max", "min")
"""In the order of ``Fold`` in native/operators.h."""


@dataclass(frozen=True)
class Step:
    """One call of a native kernel for one node of the graph.

    ``kind`` names the structure of native/steps.cc that ``sizes`` and ``numbers`` fill. The kernel writes ``target`` from
    ``operands`` (None: an absent one) and may use ``scratch``. ``detail`` is for people: what exactly is computed. ``joined``: the steps
    that a band runs together (see ``bands``).

    Units: ``work`` is multiplications and additions, or elements where there are none.
    """

    kind: str
    node: str
    target: View
    operands: tuple[View | None, ...]
    sizes: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()
    algorithm: str = ""
    threads: int = 1
    scratch: tuple[View, ...] = ()
    work: int = 0
    detail: str = ""
    joined: tuple[Step, ...] = ()

    @property
    def reads(self) -> tuple[View, ...]:
        return tuple(view for view in self.operands if view is not None)

    @property
    def whole(self) -> tuple[Step, ...]:
        """The steps of single nodes: itself, or those that were joined."""
        return self.joined or (self,)


def loop_nest(target: View, operands: Sequence[View], least: int = 1) -> tuple[int, ...]:
    """Return rank, sizes, and the strides of target and operands, all of one shape, as few axes as say the same.

    Axes run in the order in which the target lies in memory. ``least``: at least that many axes, the first of one element.

    Raises: ``UnsupportedError`` for more than 8 axes that cannot be merged.
    """
    views = (target, *operands)
    axes = sorted((axis for axis, n in enumerate(target.shape) if n != 1), key=lambda axis: -abs(target.strides[axis]))
    nest: list[tuple[int, tuple[int, ...]]] = []
    for axis in axes:
        size, strides = target.shape[axis], tuple(view.strides[axis] for view in views)
        if nest and all(outer == size * inner for outer, inner in zip(nest[-1][1], strides, strict=True)):
            nest[-1] = nest[-1][0] * size, strides
        else:
            nest.append((size, strides))
    while len(nest) < least:
        nest.insert(0, (1, (0,) * len(views)))
    if len(nest) > MOST_AXES:
        raise UnsupportedError(f"a loop over {len(nest)} axes; the engine takes {MOST_AXES}")
    sizes = [size for size, _ in nest]
    return (len(nest), *sizes, *(strides[number] for number in range(len(views)) for _, strides in nest))

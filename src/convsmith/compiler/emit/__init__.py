"""How each operator of a graph becomes steps: one dict of functions."""

from collections.abc import Callable

from convsmith.compiler.emit.convolutions import CONVOLUTIONS
from convsmith.compiler.emit.integers import INTEGERS
from convsmith.compiler.emit.pointwise import POINTWISE
from convsmith.compiler.emit.reductions import REDUCTIONS
from convsmith.compiler.emit.shaping import SHAPING
from convsmith.compiler.emit.signs import SIGNS
from convsmith.compiler.emit.windows import WINDOWS
from convsmith.compiler.planner import Planner
from convsmith.graph import Node

EMITTERS: dict[str, Callable[[Planner, Node], None]] = {
    **CONVOLUTIONS, **WINDOWS, **POINTWISE, **REDUCTIONS, **SHAPING, **INTEGERS, **SIGNS
}  # fmt: skip

__all__ = ["EMITTERS"]

"""A network as data: nodes, values and weights that can be printed, compared, changed and saved."""

from convsmith.graph.liveness import dying_values
from convsmith.graph.network import Attribute, Graph, Node, Shape, Value
from convsmith.graph.parameters import learned
from convsmith.graph.rewrite import fold_constants, prune, reads, remove_node, rename, replace_node, with_weights
from convsmith.graph.shapes import infer_shapes
from convsmith.graph.store import load, save
from convsmith.graph.text import describe
from convsmith.graph.uses import Uses

__all__ = [
    "Attribute",
    "Graph",
    "Node",
    "Shape",
    "Uses",
    "Value",
    "describe",
    "dying_values",
    "fold_constants",
    "infer_shapes",
    "learned",
    "load",
    "prune",
    "reads",
    "remove_node",
    "rename",
    "replace_node",
    "save",
    "with_weights",
]

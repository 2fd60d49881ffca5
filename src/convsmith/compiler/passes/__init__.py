"""Changes that make a graph quicker to run and leave what it computes: one a file, graph in, graph out."""

from convsmith.compiler.passes.activations import fuse_activations
from convsmith.compiler.passes.codes import fold_codes
from convsmith.compiler.passes.identities import drop_identities
from convsmith.compiler.passes.normalisations import normalisations_to_convolutions
from convsmith.compiler.passes.padding import fuse_padding
from convsmith.compiler.passes.residuals import fuse_integer_residuals, fuse_residuals
from convsmith.compiler.passes.signs import fold_signs
from convsmith.compiler.passes.swish import recognise_swish

__all__ = [
    "drop_identities",
    "fold_codes",
    "fold_signs",
    "fuse_activations",
    "fuse_integer_residuals",
    "fuse_padding",
    "fuse_residuals",
    "normalisations_to_convolutions",
    "recognise_swish",
]

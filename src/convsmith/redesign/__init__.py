"""Changes that make a network cheaper: one edit a file, graph in, graph out."""

from convsmith.redesign.fold import fold_batch_norm

__all__ = ["fold_batch_norm"]

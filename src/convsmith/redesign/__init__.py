"""Changes that make a network cheaper: one edit a file, graph in, graph out; which to choose, by measured time."""

from convsmith.redesign.application import Change, apply, change, is_exact, proposals
from convsmith.redesign.edit import Edit
from convsmith.redesign.fold import fold_batch_norm
from convsmith.redesign.kinds import KINDS, Kind

__all__ = ["KINDS", "Change", "Edit", "Kind", "apply", "change", "fold_batch_norm", "is_exact", "proposals"]

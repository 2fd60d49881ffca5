"""Changes that make a network cheaper: one edit a file, graph in, graph out; which to choose, by measured time."""

from convsmith.redesign.application import Change, apply, change, proposals
from convsmith.redesign.edit import Edit
from convsmith.redesign.fold import fold_batch_norm
from convsmith.redesign.kinds import KINDS, Kind
from convsmith.redesign.prices import PriceList
from convsmith.redesign.selection import Choice, Option, choose, made, spend, weigh

__all__ = [
    "KINDS",
    "Change",
    "Choice",
    "Edit",
    "Kind",
    "Option",
    "PriceList",
    "apply",
    "change",
    "choose",
    "fold_batch_norm",
    "made",
    "proposals",
    "spend",
    "weigh",
]

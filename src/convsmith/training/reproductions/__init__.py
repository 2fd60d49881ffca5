"""The papers that can be reproduced, one file each: networks, plans, recipes and published figures as data."""

from __future__ import annotations

from convsmith.errors import UsageError, near
from convsmith.training.reproductions.binaryconnect2015 import PAPER as BINARYCONNECT
from convsmith.training.reproductions.binarynet2016 import PAPER as BINARYNET
from convsmith.training.reproductions.courbariaux2014 import PAPER as COURBARIAUX
from convsmith.training.reproductions.gupta2015 import PAPER as GUPTA
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup, Size
from convsmith.training.reproductions.rips2017 import PAPER as RIPS

PAPERS: dict[str, Paper] = {paper.key: paper for paper in (GUPTA, COURBARIAUX, BINARYCONNECT, BINARYNET, RIPS)}

__all__ = ["PAPERS", "Arm", "Claim", "Experiment", "Paper", "Setup", "Size", "find"]


def find(key: str) -> Paper:
    """Return the paper of that name; `UsageError` with the nearest otherwise."""
    if key not in PAPERS:
        raise UsageError(f"there is no reproduction of {key!r}; there are {', '.join(PAPERS)}.{near(key, PAPERS)}")
    return PAPERS[key]

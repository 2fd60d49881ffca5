"""The sections of the page in reading order; each turns files of a run into what its template shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convsmith.report.sections import (
    accuracy,
    averages,
    bits,
    certificate,
    choices,
    cost,
    exported,
    frontier,
    images,
    papers,
    quote,
    repeat,
    speed,
    training,
    trials,
)
from convsmith.report.source import Source


@dataclass(frozen=True)
class Section:
    """A part of the page. ``build`` returns None when the run has nothing for it; then ``absent`` is shown."""

    key: str
    title: str
    build: Callable[[Source], dict[str, Any] | None]
    absent: str


SECTIONS = (
    Section("choices", "What was done, and why", choices.build, "This run took no automatic decision."),
    Section("images", "The data", images.build, "The data of this run was not recorded."),
    Section("training", "Training", training.build, "Nothing was trained in this run."),
    Section("accuracy", "How good it is", accuracy.build, "The network was not evaluated in this run."),
    Section(
        "averages", "Looking more than once", averages.build, "Averages were not measured in this run; convsmith average measures them."
    ),
    Section("cost", "What it costs", cost.build, "The cost was not analysed in this run."),
    Section("bits", "Fewer bits", bits.build, "Smaller number formats were not tried in this run; convsmith precision tries them."),
    Section("certificate", "What is proved", certificate.build, "Nothing was proved in this run; convsmith precision certify proves it."),
    Section("frontier", "Smaller and faster", frontier.build, "No smaller network was searched in this run; convsmith shrink does it."),
    Section("exported", "The exported file", exported.build, "Nothing was exported in this run; convsmith export writes the file."),
    Section("speed", "How fast it is", speed.build, "Latency was not measured in this run; convsmith bench measures it."),
    Section("quote", "Quote and truth", quote.build, "No quote was made for this run."),
    Section("repeat", "Do it again", repeat.build, "The command was not recorded."),
)

OF_A_PAPER = (
    Section("papers", "The paper's figures beside ours", papers.build, "No experiment of this run is finished yet."),
    SECTIONS[-1],
)
"""The sections of a reproduction, which has many networks and none of the user's images."""

OF_A_SWEEP = (
    Section("trials", "The trials", trials.build, "No trial of this sweep has begun yet."),
    SECTIONS[-1],
)
"""The sections of a sweep, whose trials are runs with pages of their own."""

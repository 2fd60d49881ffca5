"""The page of a reproduction: Markdown with the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from convsmith.training.reproductions.paper import Experiment, Paper, Size
from convsmith.training.reproductions.running import Row
from convsmith.training.reproductions.tables import HEADERS, cells, lines, verdicts


def markdown(paper: Paper, experiments: Sequence[Experiment], size: Size, rows: Sequence[Row], picture: str = "") -> str:
    """Return the page; experiments without a row are named as not run."""
    shortened = " (shortened)" if size == "quick" else ""
    parts = [f"# {paper.key}: the paper's figures beside ours{shortened}", f"{paper.citation}.", paper.about]
    if size == "quick":
        parts.append(
            "This is the quick setup, shortened as said at each table: its errors are not the paper's errors, its differences count."
        )
    parts += [_section(experiment, size, rows) for experiment in experiments]
    if picture:
        parts.append(f"![Test errors of all arms]({picture})")
    return "\n\n".join(parts) + "\n"


def _section(experiment: Experiment, size: Size, rows: Sequence[Row]) -> str:
    setup, mine = experiment.setup(size), [row for row in rows if row.experiment == experiment.key]
    text = [f"## {experiment.title}"]
    if not mine:
        return "\n\n".join([*text, "Not run."])
    if setup.shortened:
        text.append(f"Shortened: {setup.shortened}.")
    first, seconds = mine[0], sum(row.seconds for row in mine)
    source = f" of `{first.source}`" if first.source else ""
    amount = f"{first.images:,} training images{source}, {first.epochs:g} epochs, {first.tested:,} test images"
    text.append(f"{amount}; {len(mine)} runs in {seconds / 60:.0f} minutes.")
    table = [f"| {' | '.join(HEADERS)} |", "|" + "---|" * len(HEADERS)]
    table += [f"| {' | '.join(cells(line))} |" for line in lines(experiment, size, mine)]
    text.append("\n".join(table))
    absent = [f"{arm.name}, seed {seed}" for arm, seed in setup.runs() if not any((row.arm, row.seed) == (arm.name, seed) for row in mine)]
    if absent:
        text.append(f"Of this setup not run here: {'; '.join(absent)}.")
    judged = [
        f"- {'**Holds**' if v.holds else 'Not run' if v.holds is None else '**Fails**'}: {v.text} ({v.found})."
        for v in verdicts(experiment, size, mine)
    ]
    if judged:
        text.append("\n".join(judged))
    if experiment.differs:
        text.append("What differs from the paper:\n\n" + "\n".join(f"- {sentence}" for sentence in experiment.differs))
    return "\n\n".join(text)

"""Write the model card of a run: data, metrics by class, intended use, files and speeds, for people and for Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import printable


class Config(Settings):
    """Which run, and what only a person can say about it."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    intended: str = Field("", description="What it is meant for, in a sentence or more; kept for later cards")
    license: str = Field("", description="Licence of the network, as Hugging Face names it, such as apache-2.0; kept for later cards")
    out: Path | None = Field(None, description="Also write the card to this file, such as README.md of a folder to upload")
    overwrite: bool = Field(False, description="Replace --out when it exists")


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Write MODEL_CARD.md into the run, and to ``--out``; return where it is and what it says."""
    from convsmith import report

    if config.out and config.out.exists() and not config.overwrite:
        raise UsageError(f"{config.out} exists; give another --out, or --overwrite")
    said = {key: value for key, value in (("intended", config.intended), ("license", config.license)) if value}
    if said:
        kept = record.read_json("card.json") if runs.open(record.folder).has("card.json") else {}
        record.write_json("card.json", kept | said)
    path = report.write_card(record.folder)
    text = path.read_text(encoding="utf-8")
    if config.out:
        runs.write_bytes(config.out, text.encode("utf-8"))
    record.event("card", file=str(path))
    return {"path": str(config.out or path), "text": text}


def lines(result: Mapping[str, Any]) -> str:
    """Return the card and where it is."""
    return f"{result['text']}\nwritten to {printable(result['path'])}"

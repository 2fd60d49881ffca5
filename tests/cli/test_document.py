"""The document of the command line names what there is."""

from __future__ import annotations

from pathlib import Path

from convsmith.jobs.presets import PRESETS
from convsmith.jobs.verbs import VERBS
from convsmith.training.config import Augment, Schedule, Training
from convsmith.training.transfer import Transfer

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_verb_preset_and_training_setting_is_documented() -> None:
    for verb in VERBS:
        assert f"| `{verb} " in TEXT, verb
    for named in PRESETS.values():
        assert all(f"`{name}`" in TEXT for name in named)
    for prefix, schema in (
        ("training", Training),
        ("training.transfer", Transfer),
        ("training.schedule", Schedule),
        ("training.augment", Augment),
    ):
        for name, field in schema.model_fields.items():
            if name not in ("schedule", "augment", "transfer"):
                assert f"| `{prefix}.{name}` |" in TEXT, f"{prefix}.{name}"
                assert f"| {field.description} |" in TEXT, f"{prefix}.{name}"

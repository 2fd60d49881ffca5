"""The schema refuses what cannot be, in words that help."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from convsmith.training import Augment, Schedule, Training


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"batch": 0}, "batch is 0; allowed are 1 (online), more (mini-batch) and 'full'"),
        ({"batch": 8, "accumulate": 9}, "accumulate=9 parts of a batch of 8 leaves some empty; at most 8"),
        ({"momentum": 0.0}, "nesterov=true needs momentum above 0; set momentum=0.9 or nesterov=false"),
        ({"loss": "squared_hinge", "label_smoothing": 0.1}, "label_smoothing is for cross_entropy, the loss is squared_hinge"),
        ({"betas": (0.9, 1.0)}, "each must be at least 0 and below 1"),
        ({"epochs": 2, "schedule": {"warmup": 2}}, "warmup of 2.0 epochs leaves nothing of 2.0 epochs"),
        ({"schedule": {"kind": "multistep"}}, "multistep needs milestones"),
        ({"schedule": {"kind": "multistep", "milestones": [3, 1]}}, "must rise"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rat": 1}, "Extra inputs are not permitted"),
        ({"schedule": {"kind": "cosin"}}, "'one_cycle'"),
    ],
)
def test_refusals(fields: dict, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Training(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize("model", [Training, Schedule, Augment])
def test_every_field_is_described(model: type) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_json_round_trip() -> None:
    config = Training(epochs=3, batch="full", schedule=Schedule(kind="multistep", milestones=(1, 2)), class_weights=(1.0, 2.0))
    assert Training.model_validate_json(config.model_dump_json()) == config


def test_import_loads_no_torch() -> None:
    code = "import sys; from convsmith.training import Training, choose; import convsmith.training.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

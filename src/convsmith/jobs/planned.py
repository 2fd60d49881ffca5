"""A plan of number formats named on the command line, and the ranges of its activations on the run's images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convsmith.errors import UsageError
from convsmith.jobs import sources

if TYPE_CHECKING:
    from convsmith import precision
    from convsmith.data.dataset import Dataset
    from convsmith.graph import Graph
    from convsmith.jobs.trained import Trained


SIGNS: Final = Path("binary")
"""The name, in place of a file, of the plan that a network of signs has of its own."""

TWO_STAGES: Final = Path("two-stage")
"""The name of the same plan begun with signs of activations alone, and from half of the training on with one-bit weights too."""

SIGN_TRAINING: Final = {"optimizer": "adam", "learning_rate": 0.003, "weight_decay": 0.0, "count_every": 50}
"""What one-bit weights are trained with unless it is asked otherwise: their float32 copies only have to change sign. Flips, dead
channels and saturation are counted on the way."""


def training_of(name: Path, model: str, epochs: float | None) -> dict[str, Any]:
    """Return the plan named on the command line, and the settings that belong to it.

    Raises: ``UsageError`` for the plan of signs of a network without any, and for stages of an odd number of epochs.
    """
    from convsmith import precision

    if name not in (SIGNS, TWO_STAGES):
        return {"plan": precision.Plan.load(name).to_dict()}
    if name == SIGNS:
        return SIGN_TRAINING | {"plan": of_signs(model).to_dict()}
    if epochs is None or epochs % 2:
        given = "none are" if epochs is None else f"{epochs:g} is"
        raise UsageError(f"--plan two-stage has two stages of equal length and needs an even number of --epochs; {given} given")
    falling = {"kind": "linear", "cycles": 2}
    return SIGN_TRAINING | {"schedule": falling, "plan": of_signs(model, round(epochs / 2)).to_dict()}


def of_signs(model: str, second: int = 0) -> precision.Plan:
    """Return the plan of a network of the zoo that has layers of signs, by name; ``second``: the epoch from which weights are signs too.

    Raises: ``UsageError`` for any other network.
    """
    from convsmith import models
    from convsmith.models import lookup

    if model == "auto":
        raise UsageError(f"--plan binary needs a network that has layers of signs: --model {', '.join(models.names()['binary'])}")
    usual = lookup.find(model).input
    import torch

    from convsmith.precision.binary_plan import binary_plan, two_stage_plan

    with torch.device("meta"):
        module = models.load(model, classes=2, in_channels=usual[0], input_size=usual[1:])
    return two_stage_plan(module, second) if second else binary_plan(module)


def read(name: str, graph: Graph) -> precision.Plan:
    """Return the plan of a file, or, of a format such as int8, the plan that gives it to all weights and activations.

    bf16 and fp16 are for weights alone: the engine stores them so, and computes in float32.
    """
    from convsmith import formats, precision
    from convsmith.precision.quantisation import STORED

    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_file():
        return precision.Plan.load(path)
    try:
        fmt = formats.parse(name)
    except UsageError as error:
        raise UsageError(f"{name!r} is neither a file of a plan nor a number format such as int8: {error}") from None
    return precision.candidate(fmt, precision.layout(graph), "weight" if fmt in STORED else "both").plan


def planned(name: str | None, network: Trained, dataset: Dataset, workers: int) -> dict[str, Any]:
    """Return plan and ranges as ``compiler.build`` takes them; nothing without a plan."""
    from convsmith import precision
    from convsmith.redesign import fold_batch_norm

    if name is None:
        return {}
    graph = network.graph
    x = sources.pixels(dataset.train, network.preprocess, sources.CALIBRATION_IMAGES, workers)[0]
    return {"plan": read(name, graph), "ranges": precision.calibrate(fold_batch_norm(graph), x)}

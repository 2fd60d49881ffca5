"""Trainings for a search over number formats: one recipe again and again, under other plans, for other parts of its length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.errors import DivergenceError, UsageError
from convsmith.jobs import sources, trained
from convsmith.jobs.configuration import validate
from convsmith.training.config import Training

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.precision.plan import Plan
    from convsmith.precision.training_cost import TrainingWork
    from convsmith.precision.trials import Outcome

WARM = 0.1
"""Part of a full run in float32 after which warm trainings begin."""


class RecipeTrainer:
    """Trains the network of a recipe under plans. Short trainings are scored on the validation images, full ones on the test images.

    Everything is deterministic, so that a search that is done again finds the same.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess, build: Callable[[int], nn.Module], training: Training, workers: int = 0):
        changes = {"time_s": None, "patience": 0, "ema": 0.0, "precision": "float32", "deterministic": True, "device": "cpu"}
        changes |= {"validate_every": 1, "checkpoint_s": 1e9, "workers": workers, "channels_last": False}
        self.training = validate(Training, training.model_dump() | changes)
        self.dataset, self.preprocess, self.build = dataset, preprocess, build
        self._warm: dict[int, Mapping[str, Any]] = {}

    def __call__(self, plan: Plan | None, share: float, seed: int, warm: bool) -> Outcome:
        module = self.build(seed)
        if warm:
            if seed not in self._warm:
                early = self.build(seed)
                self._fit(early, None, WARM, seed)
                self._warm[seed] = {name: value.clone() for name, value in early.state_dict().items()}
            module.load_state_dict(dict(self._warm[seed]))
        return self._outcome(module, plan, share, seed)

    def _outcome(self, module: nn.Module, plan: Plan | None, share: float, seed: int) -> Outcome:
        from convsmith import training
        from convsmith.precision.trials import Outcome

        split = self.dataset.test if share >= 1 or "val" not in self.dataset.splits else self.dataset.val
        try:
            fit = self._fit(module, plan, share, seed)
        except DivergenceError as error:
            return Outcome(0.0, len(split), failed=str(error))
        logits = training.score(fit.network, split, self.preprocess, workers=self.training.workers)
        losses = tuple(float(page["loss"]) for page in fit.history)
        accuracies = tuple(float(page["val_accuracy"]) for page in fit.history if "val_accuracy" in page)
        return Outcome(float((logits.argmax(1) == split.labels).mean()), len(split), losses, accuracies)

    def _fit(self, module: nn.Module, plan: Plan | None, share: float, seed: int) -> Any:
        from convsmith import training

        changes = {"epochs": share * self.training.epochs, "seed": seed, "plan": plan.to_dict() if plan else None}
        if self.training.schedule.warmup:
            changes["schedule"] = self.training.schedule.model_dump() | {"warmup": share * self.training.schedule.warmup}
        fit = training.fit(module, self.dataset, validate(Training, self.training.model_dump() | changes), preprocess=self.preprocess)
        if fit.stopped_by == "interrupt":
            raise KeyboardInterrupt
        return fit

    def work(self) -> TrainingWork:
        """Return what an update of the recipe computes."""
        from convsmith.interop import pytorch
        from convsmith.precision.training_cost import training_work

        shape, images = self.preprocess, len(self.dataset.train)
        batch = images if self.training.batch == "full" else min(images, self.training.batch)
        graph = pytorch.read(self.build(0).eval(), (1, shape.channels, shape.height, shape.width))
        return training_work(graph, batch, -(-images // batch))


def trainer_of(run: runs.Run, record: runs.Listener, epochs: float | None, workers: int) -> RecipeTrainer:
    """Return the trainer that repeats the recipe of a run from random weights.

    Raises: ``UsageError`` for a run that began from given weights, whose recipe is another.
    """
    import torch

    from convsmith import models

    described = run.read_json("model.json")
    if "source" in described:
        raise UsageError(f"{run.folder} began from pretrained weights; the bits of training are searched for training from random ones")
    dataset = sources.reopen(run.read_json("dataset.json"), record, workers=workers)
    preprocess, classes = trained.preprocess_of(run)
    training = validate(Training, run.read_json("training.json") | ({"epochs": epochs} if epochs else {}))
    height, width = described["input_size"]

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        channels, options = described["in_channels"], described.get("options", {})
        return models.load(described["name"], classes=len(classes), in_channels=channels, input_size=(height, width), **options)

    return RecipeTrainer(dataset, preprocess, build, training, workers)

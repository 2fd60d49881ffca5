"""Everything that is decided before the first update of a training: input, architecture, settings and first weights, with the reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import finders, planned, sources, teaching, trained, transfer
from convsmith.jobs.configuration import given, merge, validate
from convsmith.training.config import Training

if TYPE_CHECKING:
    from torch import nn

    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess
    from convsmith.interop.pretrained import Source
    from convsmith.jobs.train import Config

MIRRORED, UNMIRRORED = "images are also mirrored", "images are not mirrored"
"""How the sentences of training.choose on mirroring begin."""

# which settings the sentences of training.choose are about, by how they begin
_SPEAKS_OF = {
    "epochs": ("epochs",),
    "batch": ("batches of",),
    "optimizer": ("AdamW",),
    "learning_rate": ("AdamW",),
    "schedule": ("AdamW",),
    "augment": ("photos", "small images"),
    "class_weights": ("the largest class",),
}


@dataclass(frozen=True)
class Prepared:
    """Everything decided before the first update; ``decisions`` are the automatic choices as ``stage, choice, reason``."""

    dataset: Dataset
    preprocess: Preprocess
    model: str
    training: Training
    decisions: tuple[Mapping[str, str], ...]
    source: Source | None = None
    finders: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def prepare(config: Config, listener: runs.Listener) -> Prepared:
    """Open the images and decide input, architecture and training where the settings leave it open; find what is to be found."""
    prepared = _prepare(config, listener)
    if "find" not in (config.batch, config.learning_rate):
        return prepared
    found, changed = finders.find(prepared, lambda changed: build(changed, config), config.batch, config.learning_rate, listener)
    decisions = [{"stage": "training", "choice": f"{name} {row['chosen']:g}", "reason": row["reason"]} for name, row in found.items()]
    for decision in decisions:
        listener.event("decision", **decision)
    return dataclasses.replace(prepared, training=changed, decisions=(*prepared.decisions, *decisions), finders=found)


def _prepare(config: Config, listener: runs.Listener) -> Prepared:
    from convsmith import data, models, training

    dataset = sources.open_images(config, listener)
    source = None
    if config.weights is not None and config.strategy != "scratch":
        source = transfer.open_source(config.weights, config.model, config.convention, dataset)
    if source is not None:
        return _prepare_transfer(config, source, dataset, listener)
    preprocess, why_input = data.choose_preprocess(dataset, config.size, config.resize, workers=config.workers)
    decisions = [_decision("input", why_input)]
    model = config.model
    if model == "auto":
        model, why_model = models.choose(dataset, preprocess, config.time)
        decisions.append({"stage": "model", "choice": model, "reason": why_model})
    asked = wanted(config)
    chosen, reasons = training.choose(dataset, preprocess, config.time, model)
    decisions += [_decision("training", _spoken(reason, asked)) for reason in reasons if not _overruled(reason, asked)]
    for decision in decisions:
        listener.event("decision", **decision)
    settings = validate(Training, merge(_fitting(chosen, asked), asked))
    return Prepared(dataset, preprocess, model, settings, tuple(decisions))


def _prepare_transfer(config: Config, source: Source, dataset: Dataset, listener: runs.Listener) -> Prepared:
    """Decide input, strategy and training for given weights; the strategy by the features of every stage unless it was asked for."""
    from convsmith import training
    from convsmith.training import big_transfer

    area, strategy = transfer.median_area(dataset), str(config.strategy)
    rule = big_transfer.hyperrule(len(dataset.train), area).crop if strategy == "bit" else None
    preprocess = source.convention.preprocess(config.size or rule)
    if config.resize is not None:
        preprocess = dataclasses.replace(preprocess, resize=config.resize)
    decisions = [{"stage": "weights", "choice": source.model, "reason": "; ".join(source.reasons)}]
    reason = "as asked"
    if strategy in ("auto", "linear_on_stage"):
        probed = transfer.probe(source, dataset, preprocess, workers=config.workers, time_s=config.time)
        found = probed.recommendation
        reason = f"{found.reason}; {probed.evidence}: about {found.minutes:.2g} minutes" if strategy == "auto" else "as asked"
        strategy = found.strategy if strategy == "auto" else strategy
        if strategy == "wise" and config.plan is not None:
            strategy, reason = "full", f"{reason}; under a plan weights are codes, which have no mean"
        if strategy == "linear_on_stage":
            stage = max(probed.scores, key=lambda score: score.accuracy).stage
            source, reason = transfer.cut_at(source, stage, probed.scores[-1].stage), f"{reason}; on stage {stage}"
    decisions.append({"stage": "strategy", "choice": strategy, "reason": reason})
    asked = wanted(config)
    chosen, reasons = training.choose(dataset, preprocess, config.time, source.model)
    if strategy == "scratch":
        source = dataclasses.replace(source, path="")
    else:
        flip = bool(chosen.augment.flip)
        of_it = transfer.settings(strategy, len(dataset.train), flip=flip, area=area)
        chosen = validate(Training, merge(chosen.model_dump(exclude_unset=True), of_it))
        if strategy == "surgical" and "block" not in asked.get("transfer", {}):
            block, why = transfer.pulled_third(source, dataset, preprocess, chosen, mirror=flip, workers=config.workers)
            chosen = validate(Training, merge(chosen.model_dump(exclude_unset=True), {"transfer": {"block": block}}))
            decisions.append({"stage": "strategy", "choice": f"block {block}", "reason": why})
        asked_too = {"epochs": 0, "batch": 0, "learning_rate": 0, **asked}
        reasons = tuple(reason for reason in reasons if not _overruled(reason, asked_too))
    decisions += [_decision("training", _spoken(reason, asked)) for reason in reasons if not _overruled(reason, asked)]
    for decision in decisions:
        listener.event("decision", **decision)
    settings = validate(Training, merge(_fitting(chosen, asked), asked))
    return Prepared(dataset, preprocess, source.model, settings, tuple(decisions), source if source.path else None)


def wanted(config: Config) -> dict[str, Any]:
    """Return the training settings that were asked for, those with a flag of their own included."""
    flags: dict[str, Any] = {"time_s": config.time, "epochs": config.epochs, "batch": config.batch, "learning_rate": config.learning_rate}
    flags = {key: value for key, value in flags.items() if value != "find"}
    shared = {"seed": config.seed, "workers": config.workers, "threads": config.threads, "device": config.device}
    always: dict[str, Any] = {"deterministic": True} if config.deterministic else {}
    if config.kernels != "torch":
        always["kernels"] = config.kernels
    asked = given(config).get("training", {})
    if config.plan is not None:
        epochs = asked.get("epochs", config.epochs)
        if config.time is not None and config.plan == planned.TWO_STAGES:
            raise UsageError("--plan two-stage trains a given number of epochs: give --epochs, and no --time")
        always |= planned.training_of(config.plan, config.model, epochs)
    if config.teacher is not None:
        always |= teaching.SETTINGS
    return merge(shared | always | {key: value for key, value in flags.items() if value is not None}, asked)


def build(prepared: Prepared, config: Config) -> nn.Module:
    """Return the network with its first weights, drawn from the seed."""
    import torch

    from convsmith import models
    from convsmith.training.beginning import begin

    torch.manual_seed(config.seed)
    shape = prepared.preprocess
    if prepared.source is not None:
        from convsmith.interop import pretrained

        return pretrained.load(prepared.source, classes=len(prepared.dataset.classes), input_size=(shape.height, shape.width))
    scratch = config.strategy == "scratch" or any(row["choice"] == "scratch" for row in prepared.decisions if row["stage"] == "strategy")
    weights = None if scratch else config.weights
    network = models.load(
        prepared.model,
        classes=len(prepared.dataset.classes),
        in_channels=shape.channels,
        input_size=(shape.height, shape.width),
        weights=weights,
    )
    if weights is None:
        begin(network, prepared.dataset, shape, workers=config.workers)
    return network


def write(prepared: Prepared, config: Config, record: runs.Record) -> None:
    """Write what was decided: dataset, preprocessing, model, training settings and the reasons."""
    shape = prepared.preprocess
    classes = list(prepared.dataset.classes)
    record.write_json("dataset.json", sources.describe(prepared.dataset, config))
    record.write_json("preprocess.json", shape.to_dict() | {"classes": classes})
    model = {"name": prepared.model, "classes": classes, "in_channels": shape.channels, "input_size": [shape.height, shape.width]}
    if prepared.source is not None:
        source = prepared.source
        model |= {"options": dict(source.options), "source": {"path": source.path, "convention": source.convention.to_dict()}}
    record.write_json("model.json", model)
    record.write_json("training.json", prepared.training)
    record.write_json("decisions.json", prepared.decisions)
    if prepared.finders:
        record.write_json("finders.json", prepared.finders)


def reopen(config: Config, record: runs.Record) -> Prepared:
    """Read back what `write` wrote; a run that was stopped before that is prepared anew."""
    run = runs.open(record.folder)
    if not run.has("decisions.json"):
        prepared = prepare(config, record)
        write(prepared, config, record)
        return prepared
    dataset = sources.reopen(run.read_json("dataset.json"), record, workers=config.workers)
    preprocess, _ = trained.preprocess_of(run)
    training = validate(Training, run.read_json("training.json"))
    model = run.read_json("model.json")
    source = None
    if "source" in model:
        from convsmith.interop import pretrained
        from convsmith.models.convention import Convention

        found = pretrained.find(model["source"]["path"], model=model["name"])
        cut = {key: value for key, value in model.get("options", {}).items() if key == "cut"}
        source = found.with_convention(Convention.from_dict(model["source"]["convention"]), "of the run")
        source = dataclasses.replace(source, options={**source.options, **cut})
    return Prepared(dataset, preprocess, model["name"], training, tuple(run.read_json("decisions.json")), source)


def _decision(stage: str, sentence: str) -> dict[str, str]:
    choice, _, reason = sentence.partition(": ")
    return {"stage": stage, "choice": choice, "reason": reason}


def _fitting(chosen: Training, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen settings without those that only fit an optimizer, schedule or loss that was not asked for."""
    settings = chosen.model_dump(exclude_unset=True)
    dropped: set[str] = set()
    if asked.get("optimizer", chosen.optimizer) != chosen.optimizer:
        dropped |= {"learning_rate", "weight_decay"}
    if "kind" in asked.get("schedule", {}) and asked["schedule"]["kind"] != chosen.schedule.kind:
        dropped |= {"schedule"}
    if asked.get("loss", chosen.loss) != chosen.loss:
        dropped |= {"label_smoothing"}
    return {key: value for key, value in settings.items() if key not in dropped}


def _overruled(reason: str, asked: Mapping[str, Any]) -> bool:
    """Tell whether a sentence gives the reason of a setting that was asked for otherwise."""
    flip = asked.get("augment", {}).get("flip")
    if reason.startswith((MIRRORED, UNMIRRORED)):
        return flip is False or (bool(flip) and reason.startswith(MIRRORED))
    return any(word in reason.partition(":")[0] for key, words in _SPEAKS_OF.items() if key in asked for word in words)


def _spoken(reason: str, asked: Mapping[str, Any]) -> str:
    """Return a sentence as it is told; that images must not be mirrored is told also where it was asked for."""
    if reason.startswith(UNMIRRORED) and asked.get("augment", {}).get("flip"):
        return f"images are mirrored as asked, though they speak against it{reason.removeprefix(UNMIRRORED)}"
    return reason

"""Make a network of 8-bit codes, or of 16-bit weights, from a trained one: a run of its own that can be exported and measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import derived, healing, planned, sources, trained
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, printable, size, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.data.dataset import Dataset
    from convsmith.graph.network import Graph
    from convsmith.precision.post_training import Coded


ENGINE_IMAGES, ENGINE_NUMBERS = 128, 1 << 21
"""Most images, and most pixel values, that all engines are compared on."""


class Config(Settings):
    """Which run, which number formats, what is done against the loss."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    plan: str = Field(
        "int8", description="Number formats: int8 for all, bf16 or fp16 for the weights, or the file of a plan, as search writes"
    )
    ranges: Literal["auto", "max", "percentile", "mse"] = Field("auto", description="Where the ranges of codes come from")
    measures: tuple[Literal["auto", "equalise", "round", "bias"], ...] = Field(
        ("auto",), description="Scale channels of neighbouring layers alike, round weights up or down by what layers give, correct biases"
    )
    images: int = Field(
        256, ge=0, description="Training images to find ranges and rounding on; 0 takes the statistics of batch norm instead"
    )
    epochs: float = Field(0.0, ge=0, description="Passes of training afterwards in which weights, biases and steps learn; 0 for none")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate of that training")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def require(config: Config) -> str:
    """Find the run before a folder is made for its child; return its name."""
    folder = runs.find(config.run, runs.root())
    network = trained.load(runs.open(folder))
    if network.has_codes:
        raise UsageError(f"{folder} is a network of codes already; quantize the run it was made from")
    if config.images == 1 or (not config.images and (config.ranges != "auto" or config.measures != ("auto",))):
        raise UsageError(
            "codes are fitted on some images and judged on others: give --images 2 or more; or 0, without --ranges and --measures, for"
            " codes from the statistics of batch norm"
        )
    return folder.name


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Make the codes, test them, compare the engines, and write network, plan, quantisation.json and evaluation into the new run."""
    parent = trained.load(runs.open(runs.find(config.run, runs.root())))
    dataset = sources.reopen(parent.run.read_json("dataset.json"), record, workers=config.workers)
    plan = planned.read(config.plan, parent.graph)
    if config.images:
        coded = make(config, parent.graph, plan, sources.pixels(dataset.train, parent.preprocess, config.images, config.workers)[0], record)
    else:
        coded = make_blind(parent, plan)
    if config.epochs:
        coded = _train(config, coded, parent, dataset, record)
    record.write_json("plan.json", coded.plan.to_dict())
    child = derived.write(record, parent, coded.codes, plan=plan.name)
    evaluation, judged = derived.judge(parent, child, dataset, record, config.workers)
    found = describe(coded, parent, child) | judged | {"plan": plan.name, "epochs": config.epochs, "images": config.images}
    found["engines"] = _engines(child, dataset, config.workers)
    record.write_json("quantisation.json", found)
    return found | {
        "folder": str(record.folder),
        "top1": evaluation.top1,
        "interval": evaluation.interval,
        "summary": {"model": child.name, "top1": evaluation.top1, "bits": plan.name},
    }


def make(config: Config, graph: Graph, plan: Any, x: NDArray[np.float32], record: runs.Listener) -> Coded:
    """Return the codes: of the recipe that was asked for, or of the best one found."""
    from convsmith.precision.post_training import PostTraining, Recipe

    work = PostTraining(graph, plan, x, lambda done, total, name: record.progress("quantize", done, total, recipe=name))
    if not any(rule.scale in ("tensor", "channel") for rule in plan.rules if rule.format is not None):
        return work.make(Recipe())  # rounded numbers have no ranges, and nothing to choose
    if config.ranges == "auto" or config.measures == ("auto",):
        measures = None if config.measures == ("auto",) else [name for name in config.measures if name != "auto"]
        return work.choose(measures, None if config.ranges == "auto" else (config.ranges,))
    recipe = Recipe(config.ranges, tuple(name for name in config.measures if name != "auto"))
    return work.judge(work.make(recipe))


def make_blind(parent: trained.Trained, plan: Any) -> Coded:
    """Return codes made without images; a pixel can be anything from black to white."""
    import numpy as np

    from convsmith.data import affine
    from convsmith.precision.data_free import without_images

    scale, shift = affine(parent.preprocess)
    ends = np.stack([shift, 255 * scale + shift])
    return without_images(parent.graph, plan, ends.min(axis=0), ends.max(axis=0))


def _train(config: Config, coded: Coded, parent: trained.Trained, dataset: Dataset, record: runs.Record) -> Coded:
    """Train weights, biases and steps for a while, by the recipe of the parent's augmentation."""
    from dataclasses import replace

    from convsmith.precision.code_training import CodeTraining

    own = {"epochs": config.epochs, "learning_rate": config.learning_rate, "optimizer": "adamw", "weight_decay": 0.0}
    module = CodeTraining(coded.codes, coded.graph)
    learned = healing.retrain(module, parent, dataset, parent.preprocess, own, record=record, resume=True)
    assert isinstance(learned, CodeTraining)
    return replace(coded, codes=learned.to_codes())


def describe(coded: Coded, parent: trained.Trained, child: trained.Trained) -> dict[str, Any]:
    """Return what was tried, and the weights against the parent's."""
    from convsmith import precision

    return {
        "recipe": str(coded.recipe),
        "trials": [{"recipe": str(trial.recipe), "error": trial.error} for trial in coded.trials],
        "weight_bytes": child.run.folder.joinpath(trained.NETWORK).stat().st_size,
        "float32_weight_bytes": precision.weight_bytes(parent.graph),
    }


def _engines(child: trained.Trained, dataset: Dataset, workers: int) -> dict[str, Any]:
    """Run torch, the native engine and ONNX Runtime on the same images, and return where they differ."""
    import torch

    from convsmith import compiler

    shape = child.preprocess
    count = max(1, min(ENGINE_IMAGES, ENGINE_NUMBERS // (shape.channels * shape.height * shape.width)))
    x = sources.pixels(dataset.test, shape, count, workers)[0]

    def by_torch(x_nchw: Any) -> Any:
        with torch.no_grad():
            return child.module(torch.from_numpy(x_nchw)).numpy()

    return compiler.compare_engines(child.graph, x, {"torch": by_torch})


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = [
        ["run", printable(result["folder"])],
        ["plan", result["plan"]],
        [
            "made by",
            (result["recipe"] if result["trials"] else "rounding" if result["images"] else f"statistics of batch norm: {result['recipe']}")
            + (f", then {result['epochs']:g} epochs of training" if result["epochs"] else ""),
        ],
        ["accuracy", f"{percent(result['accuracy'])} against {percent(result['baseline'])} on {result['n']:,} test images"],
        ["drop", f"{result['drop']:.2f} points (95 %: {result['drop_low']:.2f} to {result['drop_high']:.2f})"],
        ["network file", f"{size(result['weight_bytes'])}; its weights in float32 take {size(result['float32_weight_bytes'])}"],
    ]
    parts = [table(["what", "result"], rows)]
    if result["trials"]:
        tried = [[trial["recipe"], f"{100 * trial['error']:.3f}"] for trial in result["trials"]]
        parts.append(table(["recipe", "noise of the answer, %"], tried))
    return "\n\n".join([*parts, result["engines"]["text"]])

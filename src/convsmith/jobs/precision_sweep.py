"""Accuracy and loss against bits: rounded at every operation, at each layer, at each batch; of a trained run, or of trainings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import preparation, sources, train, trained
from convsmith.jobs.configuration import validate
from convsmith.jobs.kept import Kept
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, table

if TYPE_CHECKING:
    from convsmith.precision.moments import Measured
    from convsmith.precision.plan import Plan

POINTS = "sweep_points.json"
GROWTH_BITS = (2, 4, 7, 10)
GROWTH_IMAGES = 64


class Config(Settings):
    """A run to look at, or architectures to train under every format on given images."""

    run: str = positional("Run (folder, name, 'last'), or architectures to train, such as logistic or logistic,mlp,lenet5")
    data: str | None = Field(None, json_schema_extra={"positional": True}, description="Images to train the architectures on")
    variables: tuple[Literal["significand", "exponent", "fraction", "integer"], ...] = Field(
        ("significand", "exponent", "fraction", "integer"), description="Which bits to vary"
    )
    moments: tuple[Literal["operation", "layer", "batch"], ...] = Field(
        ("operation", "layer", "batch"), description="When to round: every operation, what layers store, parameters once a batch"
    )
    rounding: Literal["nearest_even", "toward_zero", "stochastic"] = Field("nearest_even", description="How to round")
    max_drop: float = Field(1.0, ge=0, description="Points of accuracy for the fewest bits that are told")
    images: int = Field(1000, ge=0, description="Validation images to score a run on; 0 takes all")
    epochs: float = Field(3.0, gt=0, description="Passes over the training images in each training")
    depths: tuple[int, ...] = Field((1, 2, 4, 8, 16), description="Layers of the perceptrons whose error is measured against float64")
    widths: tuple[int, ...] = Field((32, 128, 512), description="Neurons of their layers")
    seed: int = Field(0, ge=0, description="Seed of the trainings")
    workers: int = Field(0, ge=0, description="Processes that decode images")

    @property
    def writes(self) -> str:
        """A run is given its curves; architectures get a run of their own."""
        return "given run" if self.data is None else "new run"


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Trace all curves and write sweep.json and sweep.svg; interrupted, the same command goes on, or `convsmith resume` for trainings."""
    from convsmith.precision import moments
    from convsmith.precision.growth import depth_and_width

    settings = config.model_dump(mode="json", include={"run", "data", "rounding", "images", "epochs", "seed"})
    kept = Kept(record, POINTS, "points", moments.Measured.from_dict, settings)
    points: list[Measured] = []
    growth: list[dict[str, Any]] = []
    if config.data is None:
        points = _run_curves(config, record, kept)
        growth = _growth(config, record)
    else:
        for model in dict.fromkeys(name.strip() for name in config.run.split(",")):
            points += _trained_curves(config, record, model, kept)
    shape = depth_and_width(config.depths, config.widths, GROWTH_BITS)
    stored = {
        "training": config.data is not None,
        "rounding": config.rounding,
        "points": [point.to_dict() for point in points],
        "fewest": moments.fewest(points, config.max_drop),
        "max_drop": config.max_drop,
        "variables": {name: moments.VARIABLES[name] for name in config.variables},
        "growth": growth,
        "depth_and_width": shape,
    }
    record.write_json("sweep.json", stored)
    _draw(stored, record.folder / "sweep.svg")
    kept.forget()
    return stored | {"picture": str(record.folder / "sweep.svg"), "summary": {"points": len(points)}}


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on with a sweep of trainings: points that were kept are not trained again."""
    return run(config, record)


def _run_curves(config: Config, record: runs.Record, kept: Kept[Measured]) -> list[Measured]:
    """Trace the curves of a trained network on validation images."""
    import torch
    from torch.nn import functional as F

    from convsmith import precision
    from convsmith.precision import moments

    network = trained.load(runs.open(record.folder))
    dataset = sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    x, labels = sources.pixels(dataset.splits.get("val") or dataset.test, network.preprocess, config.images, config.workers)
    images, answers = torch.from_numpy(x), torch.from_numpy(labels)

    def evaluate(plan: Plan | None) -> tuple[float, float | None, int]:
        module = network.module if plan is None else precision.emulate(network.module, plan, images[:2]).eval()
        with torch.no_grad():
            logits = torch.cat([module(part) for part in torch.split(images, 128)])
        loss = float(F.cross_entropy(logits, answers))
        return float((logits.argmax(1) == answers).float().mean()), loss if loss == loss else None, len(answers)

    return moments.trace(
        network.name,
        evaluate,
        training=False,
        variables=config.variables,
        moments=config.moments,
        rounding=config.rounding,
        progress=lambda done, total, name: record.progress("sweep", done, total, format=name),
        on_point=kept.add,
        done=list(kept.found),
    )


def _trained_curves(config: Config, record: runs.Record, model: str, kept: Kept[Measured]) -> list[Measured]:
    """Train an architecture under every plan, and score each as it was trained."""
    from convsmith.jobs.trial_training import RecipeTrainer
    from convsmith.precision import moments

    settings = validate(
        train.Config,
        {"data": config.data, "model": model, "epochs": config.epochs, "workers": config.workers, "device": "cpu", "threads": 1},
    )
    prepared = preparation.prepare(settings, record)

    def build(seed: int) -> Any:
        return preparation.build(prepared, settings.model_copy(update={"seed": seed}))

    trainer = RecipeTrainer(prepared.dataset, prepared.preprocess, build, prepared.training, config.workers)

    def evaluate(plan: Plan | None) -> tuple[float, float | None, int]:
        outcome = trainer(plan, 1.0, config.seed, False)
        return outcome.accuracy, outcome.losses[-1] if outcome.losses else None, outcome.n

    return moments.trace(
        model,
        evaluate,
        training=True,
        variables=config.variables,
        moments=config.moments,
        rounding=config.rounding,
        progress=lambda done, total, name: record.progress(f"sweep of {model}", done, total, format=name),
        on_point=kept.add,
        done=list(kept.found),
    )


def _growth(config: Config, record: runs.Record) -> list[dict[str, Any]]:
    """Return the accumulated error of each layer of the run's network against float64, in float32 and narrower."""
    from convsmith.formats import Format
    from convsmith.precision.growth import error_growth, stored_and_summed

    network = trained.load(runs.open(record.folder))
    dataset = sources.reopen(record.read_json("dataset.json"), record, workers=config.workers)
    x, _ = sources.pixels(dataset.splits.get("val") or dataset.test, network.preprocess, GROWTH_IMAGES, config.workers)
    graph, rows = network.graph, []
    for bits in (*GROWTH_BITS, 23):
        plan = None if bits == 23 else stored_and_summed(Format.float(8, bits))
        rows += [{"bits": bits} | found.to_dict() for found in error_growth(graph, plan, x)]
    return rows


def _draw(stored: Mapping[str, Any], path: Path) -> None:
    """Draw the curves, a row of panels for each model and a panel for each kind of bits, and the errors below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, variables = stored["points"], list(stored["variables"])
    models = list(dict.fromkeys(point["model"] for point in points))
    if not variables:
        raise UsageError("no variables to draw; give at least one of significand, exponent, fraction, integer")
    figure = Figure(figsize=(3.4 * len(variables) + 0.6, 3.0 * (len(models) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(models) + 1, len(variables), squeeze=False)
    for row, model in zip(panels, models, strict=False):
        base = next(point for point in points if point["model"] == model and not point["variable"])
        for panel, variable in zip(row, variables, strict=True):
            panel.axhline(100 * base["accuracy"], color="0.5", linewidth=0.8, label="float32")
            mine = [point for point in points if point["model"] == model and point["variable"] == variable]
            for moment in dict.fromkeys(point["moment"] for point in mine):
                curve = sorted((p for p in mine if p["moment"] == moment), key=lambda p: p["bits"])
                panel.plot([p["bits"] for p in curve], [100 * p["accuracy"] for p in curve], marker="o", markersize=3, label=moment)
            panel.set_title(f"{model}: {variable}", fontsize="medium")
            panel.set_xlabel(f"{variable} bits")
        row[0].set_ylabel("accuracy, %")
    panels[0][-1].legend(fontsize="small", title="rounded at each")
    _draw_errors(stored, panels[-1])
    figure.savefig(path)


def _draw_errors(stored: Mapping[str, Any], panels: Any) -> None:
    first, *others = panels
    growth, shape = stored["growth"], stored["depth_and_width"]
    if growth:
        for bits in dict.fromkeys(row["bits"] for row in growth):
            mine = [row for row in growth if row["bits"] == bits]
            first.semilogy([r["depth"] for r in mine], [max(r["error"], 1e-9) for r in mine], marker=".", label=f"{bits} bits")
        first.set_title("error along the network", fontsize="medium")
        first.set_xlabel("layer")
        first.legend(fontsize="x-small")
    else:
        others = [first, *others]
    for width, panel in zip(dict.fromkeys(row["width"] for row in shape), others, strict=False):
        for bits in dict.fromkeys(row["bits"] for row in shape):
            mine = [row for row in shape if row["bits"] == bits and row["width"] == width]
            panel.semilogy([r["depth"] for r in mine], [max(r["error"], 1e-9) for r in mine], marker=".", label=f"{bits} bits")
        panel.set_title(f"perceptrons, {width} neurons", fontsize="medium")
        panel.set_xlabel("layers")
        panel.legend(fontsize="x-small")


def lines(result: Mapping[str, Any]) -> str:
    """Return the fewest bits of each curve, and how errors grow, as text."""
    bases = {p["model"]: p for p in result["points"] if not p["variable"]}
    parts = [f"{model} in float32: {percent(p['accuracy'])} of {p['n']:,} images, loss {_number(p['loss'])}" for model, p in bases.items()]
    rows = [[r["model"], r["variable"], r["moment"], "none" if r["bits"] is None else r["bits"]] for r in result["fewest"]]
    head = ["model", "bits", "rounded at each", f"fewest within {result['max_drop']:g} points"]
    every = [
        [p["model"], p["variable"], p["moment"], p["bits"], p["format"], percent(p["accuracy"]), _number(p["loss"])]
        for p in result["points"]
        if p["variable"]
    ]
    parts += [table(["model", "bits", "rounded at each", "number", "format", "accuracy", "loss"], every), table(head, rows)]
    if result["growth"]:
        last = [row for row in result["growth"] if row["depth"] == max(r["depth"] for r in result["growth"])]
        told = ", ".join(f"{row['bits']} bits {row['error']:.2g}" for row in last)
        parts.append(f"Error of the last layer against float64, as a part of its size, by significand bits: {told}.")
    return "\n\n".join([*parts, f"picture: {result['picture']}"])


def _number(loss: float | None) -> str:
    return "no number" if loss is None else f"{loss:.4f}"

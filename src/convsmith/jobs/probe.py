"""Measure what a pretrained network knows of the images: every stage scored, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import sources, transfer
from convsmith.jobs.settings import Images
from convsmith.jobs.text import percent, table


class Config(Images):
    """Which images, which pretrained network."""

    weights: Path | None = Field(None, description="Pretrained weights: a file, torchvision/NAME or timm/NAME")
    model: str = Field("auto", description="Architecture of the weights, or 'auto'")
    convention: transfer.ConventionName = Field("auto", description="How the weights want their input")
    size: int | None = Field(None, ge=1, description="Side of the input in pixels; by default that of the weights")
    mirror: bool = Field(True, description="Use mirror images too")
    plot: Path | None = Field(None, description="SVG file to draw accuracy against depth into")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the scores of every stage by cross-validation on the training images, and the recommendation with its evidence."""
    if config.weights is None:
        raise UsageError("probe needs the pretrained weights to probe: --weights FILE, torchvision/NAME or timm/NAME")
    dataset = sources.open_images(config, record)
    source = transfer.open_source(config.weights, config.model, config.convention, dataset)
    if source is None:
        raise UsageError(f"{config.weights} belongs to a network of Convsmith's own; probe is for networks pretrained on colour photos")
    record.progress("probe", 0, 1)
    found = transfer.probe(source, dataset, source.convention.preprocess(config.size), mirror=config.mirror, workers=config.workers)
    record.progress("probe", 1, 1)
    scores = [asdict(score) for score in found.scores]
    if config.plot is not None:
        config.plot.write_text(picture(scores))
    return {
        "source": {"model": source.model, "convention": source.convention.to_dict(), "reasons": source.reasons},
        "images": len(found.features.labels),
        "seconds": found.features.seconds,
        "stages": scores,
        "recommendation": asdict(found.recommendation),
        "minutes": dict(found.minutes),
        "evidence": found.evidence,
        "plot": str(config.plot) if config.plot else None,
    }


def picture(scores: list[dict[str, Any]]) -> str:
    """Return accuracy against depth as an SVG picture."""
    from convsmith.report.charts.lines import Curve, line_chart

    depth = [float(place) for place in range(1, len(scores) + 1)]
    curves = [
        Curve("logistic regression", depth, [score["accuracy"] for score in scores]),
        Curve("linear SVM", depth, [score["svm"] for score in scores]),
    ]
    drawn = line_chart(curves, x_label="stage", y_label="accuracy", label="accuracy against depth", y_most=1.0)
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = [
        [
            score["stage"],
            score["maps"],
            f"{percent(score['accuracy'])} +- {100 * score['error']:.1f}",
            percent(score["svm"]),
            f"{score['log_evidence']:.3f}",
            f"{score['h_score']:.3f}",
        ]
        for score in result["stages"]
    ]
    found = result["recommendation"]
    parts = ["\n".join(result["source"]["reasons"]), table(["stage", "maps", "logistic", "SVM", "LogME", "H-score"], rows)]
    told = [[name, f"{minutes:.2g}"] for name, minutes in sorted(result["minutes"].items(), key=lambda item: item[1])]
    parts.append(f"Predicted: {result['evidence']}.\n\n" + table(["strategy", "minutes"], told))
    parts.append(f"{found['strategy']} on {found['stage']}, about {found['minutes']:.2g} minutes: {found['reason']}")
    return "\n\n".join(parts)

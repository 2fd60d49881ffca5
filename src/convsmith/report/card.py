"""The model card of a run: Markdown with the front matter of Hugging Face, made from the files of the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from convsmith.analysis import Evaluation
from convsmith.report import units
from convsmith.report.sections import bits, images, repeat, speed
from convsmith.report.source import Source, open_source, quietly
from convsmith.runs.files import write_bytes

NAME: Final = "MODEL_CARD.md"
CONFUSIONS: Final = 5
INTENDED: Final = (
    "Naming which of the classes below is on an image like those it was trained on. It gives one of them for any image, also for one "
    "of something else; the score tells little about that."
)
UNFIT: Final = (
    "Not for decisions about people or where a wrong answer does harm without somebody looking at it: nobody but the images below has "
    "tested it."
)


def write_card(run_folder: str | Path) -> Path:
    """Write the card into the run folder and return its path; an earlier card is replaced.

    What only a person can say, intended use and licence, stands in the run's card.json.

    Raises: UsageError when the folder is no run; ResourceError when it cannot be written.
    """
    path = Path(run_folder) / NAME
    write_bytes(path, card(run_folder).encode("utf-8", "backslashreplace"))
    return path


def card(run_folder: str | Path) -> str:
    """Return the card; what the run did not do is left out, and a file that cannot be read is said."""
    source = open_source(run_folder)
    parts: dict[str, Any] = {}
    faults = []
    for name, build in PARTS.items():
        parts[name], fault = quietly(build, source)
        faults += [fault] if fault else []
    title = str(source.described.get("data") or source.run.name)
    said = source.table("card.json") or {}
    told = {"title": title, "intended": said.get("intended") or INTENDED, "unfit": UNFIT, "command": repeat.command(source)}
    body = _template().render(**told, faults=faults, **parts)
    front = yaml.safe_dump(_front(source, title, said.get("license", "")), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body.strip()}\n"


def _front(source: Source, title: str, license: str) -> dict[str, Any]:
    """Return the front matter, with the measured accuracy as a model index."""
    found: dict[str, Any] = {"license": license} if license else {}
    found |= {
        "library_name": "convsmith",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "convnet", "onnx"],
        "metrics": ["accuracy"],
    }
    evaluation = source.evaluation()
    if evaluation is not None:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": title, "type": "image-folder", "split": source.tested_on},
            "metrics": [{"type": "accuracy", "value": round(evaluation.top1, 6), "name": "top-1 accuracy"}],
        }
        found["model-index"] = [{"name": source.run.name, "results": [result]}]
    return found


def _model(source: Source) -> dict[str, Any] | None:
    model = source.table("model.json")
    if model is None:
        return None
    totals = (source.table("analysis.json") or {}).get("totals") or {}
    return {"name": model["name"]} | {key: _maybe(units.amount, totals.get(key)) for key in ("parameters", "macs")}


def _metrics(source: Source) -> dict[str, Any] | None:
    evaluation = source.evaluation()
    if evaluation is None:
        return None
    n = evaluation.n
    calibrated = evaluation.calibrated
    return {
        "n": units.count(n),
        "part": source.tested_on,
        "top1": units.percent(evaluation.top1, n),
        "interval": [units.percent(bound, n) for bound in evaluation.interval],
        "macro_f1": units.percent(evaluation.macro_f1, n),
        "ece": units.percent((calibrated or evaluation.calibration).ece),
        "rows": [
            [score.name, *(units.percent(value, n) for value in (score.precision, score.recall, score.f1)), units.count(score.support)]
            for score in evaluation.per_class
        ],
        "confusions": _confusions(evaluation),
    }


def _confusions(evaluation: Evaluation) -> list[list[str]]:
    """Return the most frequent mistakes: true class, predicted class, how often."""
    found = [
        (count, evaluation.classes[true], evaluation.classes[predicted])
        for true, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return [[true, predicted, units.count(count)] for count, true, predicted in sorted(found, key=lambda item: -item[0])[:CONFUSIONS]]


def _confidence(source: Source) -> dict[str, str] | None:
    found = source.table("confidence.json")
    if found is None:
        return None
    return {
        "temperature": f"{found['temperature']:.3f}",
        "threshold": f"{found['threshold']:.3f}",
        "answered": units.percent(found["answered"]),
        "right": units.percent(found["right"]),
    }


def _files(source: Source) -> list[list[str]]:
    """Return every exported file that is still there: name, kind, size, what ran it, how it agreed."""
    rows = []
    for name in sorted(path.name for path in source.run.folder.glob("export*.json")):
        export = source.table(name) or {}
        parity = export.get("parity")
        told = "not run here"
        if parity:
            wrong = len(parity["disagreements"])
            runtime = speed.NAMES.get(parity["runtime"], parity["runtime"])
            told = f"{runtime}: {wrong or 'none'} of {units.count(parity['images'])} images predicted otherwise"
        plan = f" ({export['plan']})" if "plan" in export else ""
        rows.append([str(export["path"]), f"{export['target']}{plan}", units.size(export["size_bytes"]), told])
    return rows


def _speeds(source: Source) -> dict[str, Any] | None:
    bench = source.table("bench.json")
    if bench is None:
        return None
    rows = [_speed(row, what) for key, what in (("network", "network alone"), ("file", "whole file")) for row in bench[key]]
    height, width = bench["image_size"]
    return {"rows": rows, "threads": bench["threads"], "size": f"{height} x {width}"}


def _speed(row: Mapping[str, Any], what: str) -> list[str]:
    runtime, rate = speed.NAMES.get(row["runtime"], row["runtime"]), f"{units.amount(row['images_per_s'])}/s"
    return [runtime, what, str(row["batch"]), units.latency(row["median_ms"] / 1e3), rate]


def _bits(source: Source) -> dict[str, str] | None:
    found = bits.read(source)
    if found is None or found.chosen is None:
        return None
    return {"format": str(found.chosen["format"]), "bits": f"{found.chosen['bits']:g}", "max_drop": f"{found.max_drop:g}"}


def _versions(source: Source) -> list[str]:
    return [f"{key} {value}" for key, value in (source.described.get("versions") or {}).items()]


PARTS: Final = {
    "data": images.build,
    "model": _model,
    "metrics": _metrics,
    "confidence": _confidence,
    "files": _files,
    "speeds": _speeds,
    "bits": _bits,
    "versions": _versions,
}


def _maybe(write: Any, value: Any) -> str | None:
    return None if value is None else str(write(value))


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("convsmith.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["text"] = plain
    environment.filters["row"] = row
    return environment.get_template("card.md")


def plain(value: Any) -> str:
    """Return one line of text that Markdown shows as it is: names of folders may hold any character."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", line)


def row(cells: Sequence[Any]) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"

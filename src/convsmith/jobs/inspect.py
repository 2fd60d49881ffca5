"""What a network costs, layer by layer, against what this machine can do: a run, an ONNX file, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UnsupportedError, UsageError
from convsmith.jobs import memory, subject
from convsmith.jobs.amount import Amount
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.settings import text as notation
from convsmith.jobs.text import printable, table

if TYPE_CHECKING:
    from convsmith.compiler.profiling import Profile
    from convsmith.graph.network import Graph
    from convsmith.kernels.machine_speed import Speed


class Config(Settings):
    """Which network, and for what input when only its name is given."""

    network: str = positional("Network: a run, an .onnx file, or a name such as resnet18 or timm/NAME; without one, the names", default="")
    batch: int = Field(1, ge=1, description="Images at once, for the sizes of activations and the times")
    size: int | None = Field(None, ge=1, description="Side of the input in pixels, for a name; by default its usual one")
    channels: int | None = Field(None, ge=1, description="Channels of the input, for a name; by default its usual ones")
    classes: int | None = Field(None, ge=1, description="Classes, for a name; by default its usual ones")
    measure: bool = Field(True, description="Run the network in the native engine and measure each layer on this machine")
    threads: int = Field(0, ge=0, description="Processor threads of the measurement; 0 takes one for each processor")
    training: int = Field(32, ge=0, description="Images an update, for the memory that a training would take; 0 leaves that out")
    memory: Amount | None = notation(None, "AMOUNT", "Memory to fit, such as 3GB: the largest batches of inference and training are told")
    image: Path | None = Field(None, description="Image to show in the network: activations, receptive fields, Grad-CAM; needs --page")
    page: Path | None = Field(None, description="HTML file to write, with pictures; one that exists is not replaced")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the cost report of the network with the limits of each layer, or the names of the zoo when none is given."""
    from convsmith import analysis, models

    if not config.network:
        return {"names": models.names()}
    if config.image is not None and config.page is None:
        raise UsageError("--image is shown on a page; name one with --page FILE.html")
    new_page(config.page)
    looked = subject.open_subject(config.network, subject.Wanted(config.size, config.channels, config.classes))
    report = analysis.analyse(looked.graph, config.batch)
    found, notes = report.to_dict(), list[str]()
    found["layers"] = [row | {"sources": sources} for row, sources in zip(found["layers"], _sources(looked.graph), strict=True)]
    speed, profile = _measured(looked.graph, config, notes, record) if config.measure else (None, None)
    more: tuple[analysis.Column, ...] = ()
    if speed is not None:
        limits = analysis.roofline(report, speed, profile.seconds if profile else None)
        total_s = sum(limit.measured_s or 0.0 for limit in limits)
        found["layers"] = [row | limit.to_dict(total_s) for row, limit in zip(found["layers"], limits, strict=True)]
        found["machine"] = speed.to_dict()
        more = analysis.columns(limits)
    if profile is not None:
        found["layers"] = [
            row | {"fused": row["name"] not in profile.seconds, "algorithm": profile.algorithms.get(row["name"])} for row in found["layers"]
        ]
        found["measured"] = _summary(profile)
    record.progress("memory", 0, 1)
    needs = memory.memory(looked, config.batch, config.training, config.memory)
    record.progress("memory", 1, 1)
    found |= {"memory": needs, "text": report.table(more), "notes": notes, "page": config.page and str(config.page)}
    if config.page is not None:
        _write_page(config, looked, found)
    return found


def new_page(page: Path | None) -> None:
    """Refuse a page that would replace a file."""
    if page is not None and page.exists():
        raise UsageError(f"{str(page)!r} exists already; name another file with --page, or remove it")


def _sources(graph: Graph) -> list[list[str]]:
    """Return for each node the nodes whose outputs it reads."""
    makers = {output: node.name for node in graph for output in node.outputs}
    return [list(dict.fromkeys(makers[name] for name in node.inputs if name in makers)) for node in graph]


def _write_page(config: Config, looked: subject.Subject, found: Mapping[str, Any]) -> None:
    from convsmith import data, report, training

    assert config.page is not None
    seen = None
    if config.image is not None:
        if looked.preprocess is None:
            raise UsageError(f"how {config.network!r} wants its images is not known; give a run or a file that `convsmith export` wrote")
        seen = training.explain(looked.module(), data.read_image(config.image), looked.preprocess)
    shown = dict(found) | {"memory": memory.sentences(found["memory"])}
    picture = config.image.name if config.image is not None else ""
    name = Path(config.network).name if looked.trained else config.network
    page = report.render_network(name, shown, seen=seen, classes=looked.classes, picture=picture)
    runs.files.write_bytes(config.page, page.encode("utf-8"))


def _measured(graph: Graph, config: Config, notes: list[str], record: runs.Listener) -> tuple[Speed | None, Profile | None]:
    """Return the limits of the machine and the times of the layers; None, and a note, for what cannot be measured."""
    from convsmith import compiler
    from convsmith.graph import Shape
    from convsmith.kernels import processor_count
    from convsmith.kernels.machine_speed import machine_speed

    threads = config.threads or processor_count()
    speed: Speed | None = None
    record.progress("measure", 0, 2)
    try:
        speed = machine_speed(threads)
        record.progress("measure", 1, 2)
        program = compiler.build(graph, threads=threads)
        shapes: list[Shape] = [(config.batch, *value.shape[1:]) for value in graph.inputs]
        profile = compiler.profile(program, *shapes)
    except UnsupportedError as error:
        notes.append(f"not measured: {error}")
        return speed, None
    record.progress("measure", 2, 2)
    return speed, profile


def _summary(profile: Profile) -> dict[str, Any]:
    return {
        "total_s": profile.total_s,
        "layers_s": sum(profile.seconds.values()),
        "rounds": profile.rounds,
        "values_bytes": profile.values_bytes,
        "constants_bytes": profile.constants_bytes,
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    if "names" in result:
        return table(["family", "models"], [[family, ", ".join(names)] for family, names in result["names"].items()])
    parts = [str(result["text"])]
    if "machine" in result:
        parts.append(_machine(result))
    parts += memory.sentences(result["memory"])
    if result["page"]:
        parts.append(f"Page: {printable(result['page'])}")
    return "\n".join([*parts, *(f"Note: {note}" for note in result["notes"])])


def _machine(result: Mapping[str, Any]) -> str:
    """Return what the machine can do and what the whole network took, as two lines."""
    from convsmith.analysis.cost_report import size
    from convsmith.analysis.limits import duration

    speed = result["machine"]
    threads = f"{speed['threads']} thread{'s' if speed['threads'] > 1 else ''}"
    near, far = speed["bandwidths"][0][1], speed["bandwidths"][-1][1]
    told = (
        f"this machine ({speed['processor']}, {speed['level']}, {threads}): {speed['flops_per_s'] / 1e9:.0f} billion operations/s, "
        f"{near / 1e9:.0f} GB/s from the first cache, {far / 1e9:.0f} GB/s from memory"
    )
    whole = result.get("measured")
    if whole is None:
        return told
    memory = f"{size(whole['values_bytes'])} for values and {size(whole['constants_bytes'])} for prepared weights"
    per = "an image" if result["batch"] == 1 else f"{result['batch']} images"
    return f"{told}\nnative engine: {duration(whole['total_s'])} for {per}, median of {whole['rounds']}; {memory}"

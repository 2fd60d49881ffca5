"""What a network costs, layer by layer, against what this machine can do: a run, an ONNX file, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UnsupportedError
from convsmith.jobs import subject
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import table

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


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the cost report of the network with the limits of each layer, or the names of the zoo when none is given."""
    from convsmith import analysis, models

    if not config.network:
        return {"names": models.names()}
    looked = subject.open_subject(config.network, subject.Wanted(config.size, config.channels, config.classes))
    report = analysis.analyse(looked.graph, config.batch)
    found, notes = report.to_dict(), list[str]()
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
    return found | {"text": report.table(more), "notes": notes}


def _measured(graph: Graph, config: Config, notes: list[str], record: runs.Listener) -> tuple[Speed | None, Profile | None]:
    """Return the limits of the machine and the times of the layers; None, and a note, for what cannot be measured."""
    from convsmith import compiler
    from convsmith.graph import Shape
    from convsmith.kernels import processor_count
    from convsmith.kernels.machine_speed import machine_speed

    threads = config.threads or processor_count()
    record.progress("measure", 0, 2)
    try:
        speed = machine_speed(threads)
        record.progress("measure", 1, 2)
        program = compiler.build(graph, threads=threads)
        shapes: list[Shape] = [(config.batch, *value.shape[1:]) for value in graph.inputs]
        profile = compiler.profile(program, *shapes)
    except UnsupportedError as error:
        notes.append(f"not measured: {error}")
        return None if not _has_native() else machine_speed(threads), None
    record.progress("measure", 2, 2)
    return speed, profile


def _has_native() -> bool:
    from convsmith.kernels import instruction_sets

    return bool(instruction_sets())


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

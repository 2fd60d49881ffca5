"""Which one stage of a training on these images takes most of its time, and one thing to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import preparation, train
from convsmith.jobs.amount import Amount
from convsmith.jobs.settings import text as notation
from convsmith.jobs.text import percent, printable, size, table
from convsmith.training.config import Training

if TYPE_CHECKING:
    from convsmith.training.diagnosis import Diagnosis, Fix


class Config(train.Config):
    """Which training, as for `train`, and whether what is found is to be mended."""

    trial: int = Field(128, ge=8, description="Images of the trials, evenly spread over the training part")
    memory: Amount | None = notation(None, "AMOUNT", "Memory that the training may take, such as 3GB; by default what is free")
    apply: bool = Field(False, description="Mend what is found and measure again: writes settings for train, and a pack where it helps")
    settings_file: Path = Field(Path("doctor.yaml"), description="Settings file that --apply writes; one that exists is not replaced")
    pack: Path = Field(Path("doctor.pack"), description="Pack that --apply writes where reading or decoding is slow; none is replaced")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Return the seconds of each stage, the bottleneck and its fix; with ``apply`` also what it is after the fix."""
    if config.apply:
        for path, flag in ((config.settings_file, "--settings-file"), (config.pack, "--pack")):
            if path.exists():
                raise UsageError(f"{str(path)!r} exists already; name another file with {flag}, or remove it")
    before, prepared = _diagnosed(config, record)
    found: dict[str, Any] = {"model": prepared.model, "images": len(prepared.dataset.train), **before.to_dict()}
    if config.apply:
        mended = _mended(config, before.fix, prepared, record)
        _write(config.settings_file, mended)
        after, _ = _diagnosed(mended, record)
        pack = str(config.pack) if before.fix.pack else None
        found |= {"after": after.to_dict(), "settings_file": str(config.settings_file), "pack": pack}
    return found


def _diagnosed(config: Config, record: runs.Listener) -> tuple[Diagnosis, preparation.Prepared]:
    from convsmith.training.diagnosis import diagnose

    prepared = preparation.prepare(config, runs.Unrecorded())
    module = preparation.build(prepared, config)
    diagnosis = diagnose(
        module,
        prepared.dataset,
        prepared.preprocess,
        prepared.training,
        images=config.trial,
        limit_bytes=config.memory,
        progress=lambda done, total: record.progress("trials", done, total),
    )
    return diagnosis, prepared


def _mended(config: Config, fix: Fix, prepared: preparation.Prepared, record: runs.Listener) -> Config:
    """Return the settings with the fix in them, every choice that was made for the images kept; writes the pack where there is one."""
    settings = prepared.training.model_dump()
    changed = {key: value for key, value in fix.settings.items() if key in Training.model_fields}
    for key, value in changed.items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    side = fix.settings.get("size", prepared.preprocess.height)
    more: dict[str, Any] = {"training": Training(**settings), "model": prepared.model, "size": side, "apply": False, "time": None}
    more |= {"epochs": None, "batch": None, "learning_rate": None, "workers": settings["workers"]}
    if fix.pack:
        from convsmith import jobs

        # training reads parts of the images: an eighth more than the network's input is kept
        jobs.perform("pack", {"data": config.data, "to": config.pack, "short_side": round(side * 8 / 7), "exclude": config.exclude})
        more |= {"data": str(config.pack), "exclude": None}
    return config.model_copy(update=more)


def _write(path: Path, config: Config) -> None:
    """Write the settings of the mended training for `convsmith train --config`."""
    import yaml

    own = set(Config.model_fields) - set(train.Config.model_fields)
    fields = config.model_dump(mode="json", exclude=own | {"plan", "leaked", "weights"}, exclude_none=True)
    runs.files.write_bytes(path, yaml.safe_dump(fields, sort_keys=False).encode())


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    parts = [_stages(result), f"bottleneck: {result['bottleneck']}\nfix: {result['fix']['text']}"]
    if result["need_bytes"] > result["limit_bytes"]:
        parts.append(f"The training would take about {size(result['need_bytes'])}, and it may take {size(result['limit_bytes'])}.")
    after = result.get("after")
    if after:
        gain = result["total_s"] / after["total_s"]
        packed = f"\npack: {printable(result['pack'])}" if result["pack"] else ""
        parts.append(
            f"{_stages(after)}\n\nafter the fix: {gain:.2f} times as fast, now bound by {after['bottleneck']}{packed}\n"
            f"train with it: convsmith train --config {printable(result['settings_file'])}"
        )
    else:
        parts.append("To apply it and measure again: --apply")
    return "\n\n".join(parts)


def _stages(found: Mapping[str, Any]) -> str:
    rows = [
        [stage, f"{1e3 * seconds:.3f}", percent(seconds / found["total_s"])]
        for stage, seconds in sorted(found["seconds"].items(), key=lambda item: -item[1])
    ]
    return table(["stage", "ms an image", "share"], rows)

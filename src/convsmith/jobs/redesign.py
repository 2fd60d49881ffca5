"""Make a trained network quicker: edits chosen by measured time and little loss, corrected, healed, as a run of its own."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import derived, edit_decision, healing, sources, trained
from convsmith.jobs.duration import Duration, format_duration
from convsmith.jobs.settings import Settings, positional, text
from convsmith.jobs.text import percent, printable, table

if TYPE_CHECKING:
    from convsmith import redesign
    from convsmith.data.dataset import Dataset
    from convsmith.graph.network import Graph
    from convsmith.jobs.edit_decision import Decision
    from convsmith.jobs.edit_search import EditSearch

HEALED = 8.0
"""Without a time to reach, edits that are healed afterwards may lose so many times what is allowed."""


class Config(Settings):
    """Which run, how quick it must become, what may be lost and done."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")
    speedup: float | None = Field(None, gt=1, description="How many times as fast it must be; by default as fast as the drop allows")
    max_ms: float | None = Field(None, gt=0, description="Milliseconds that one batch may take instead")
    max_drop: float = Field(1.0, ge=0, description="Accuracy that may be lost, in points")
    edits: tuple[str, ...] = Field((), description="Kinds of edit to try, such as prune, tucker, skip; all by default")
    batch: int = Field(1, ge=1, description="Images at once, in what is measured")
    threads: int = Field(0, ge=0, description="Processor threads; 0 takes one for each processor")
    estimate: Literal["auto", "output", "taylor"] = Field(
        "auto", description="Loss of an edit by running the network with it, or of all by one backward pass"
    )
    correct: bool = Field(True, description="Give edited layers the means and deviations of the original on some images")
    epochs: float | None = Field(None, gt=0, description="Healing: passes over the training images, taught by the original")
    time: Duration | None = text(None, "TIME", "Healing: time it may take, such as 90s, 10m", gt=0)
    learning_rate: float = Field(healing.RATE, gt=0, description="Healing: highest learning rate")
    distil: float = Field(0.8, ge=0, le=1, description="Healing: share of the loss against the scores of the original")
    calibration: int = Field(256, ge=2, description="Training images for losses and corrections")
    images: int = Field(2000, ge=0, description="Validation images to search on; 0 takes all")
    workers: int = Field(0, ge=0, description="Processes that decode images")

    @property
    def heals(self) -> bool:
        """Whether the network is trained afterwards."""
        return self.epochs is not None or self.time is not None


def require(config: Config) -> str:
    """Find the run and refuse what cannot be, before a folder is made for its child; return its name."""
    from convsmith.redesign.kinds import find

    for kind in config.edits:
        find(kind)
    if config.speedup is not None and config.max_ms is not None:
        raise UsageError("--speedup and --max-ms both say how quick it must become; give one of them")
    folder = runs.find(config.run, runs.root())
    if trained.load(runs.open(folder)).has_codes:
        raise UsageError(f"{folder} is a network of codes; redesign the run it was made from, then quantize that")
    return folder.name


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Search, edit, correct, heal and measure; write network, redesign.json and evaluation into the new run.

    What was found is kept as it comes: a run that was interrupted goes on with the losses it knows, the edits it chose, its healing.

    Raises: UsageError when no edits make it as quick as asked; KeyboardInterrupt after Ctrl-C.
    """
    from convsmith.jobs.edit_search import smaller

    parent = trained.load(runs.open(runs.find(config.run, runs.root())))
    dataset = sources.reopen(parent.run.read_json("dataset.json"), record, workers=config.workers)
    losses = edit_decision.Losses(record, config.model_dump(mode="json", include={"run", "estimate", "calibration"}))
    search = prepare(config, parent, dataset, record, losses)
    decision = edit_decision.recall(record, lambda: decide(config, search, record))
    losses.forget()
    final, steps = decision.graph, list(decision.steps)
    preprocess = smaller(parent.preprocess, final.inputs[0].shape[2:])
    if config.heals and decision.changes:
        own = {"learning_rate": config.learning_rate, "distil": config.distil, "epochs": config.epochs or 20.0, "time_s": config.time}
        final = healing.heal(final, parent, dataset, preprocess, own, record=record, resume=True)
        steps.append(step_of(search, "healed by training", final, None))
    child = derived.write(record, parent, final, preprocess=preprocess, edits=[edit.to_dict() for edit in decision.edits])
    evaluation, judged = derived.judge(parent, child, dataset, record, config.workers)
    found = report(config, search, decision, parent, child) | judged | {"holds": judged["drop"] <= config.max_drop, "steps": steps}
    record.write_json("redesign.json", found)
    edit_decision.forget(record)
    summary = {"model": child.name, "top1": evaluation.top1, "speedup": found["speedup"]}
    return found | {"top1": evaluation.top1, "interval": evaluation.interval, "folder": str(record.folder), "summary": summary}


def resume(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on where the run stopped: in weighing, or in healing from its last checkpoint."""
    return run(config, record)


def decide(config: Config, search: EditSearch, record: runs.Listener) -> Decision:
    """Choose the edits, follow what each does, and correct the network."""
    from convsmith.jobs.edit_decision import Decision

    choice = choose(config, search)
    record.event("redesign", edits=len(choice.edits), predicted_s=choice.seconds)
    steps, graph = follow(search, choice), choice.graph
    if config.correct and choice.edits:
        graph = search.corrected(graph)
        steps.append(step_of(search, "corrected means and deviations", graph, None))
    edits = (*search.exact, *choice.edits)
    return Decision(edits, len(search.exact), len(search.options), search.before_s, tuple(steps), graph)


def quote(config: Config) -> dict[str, Any]:
    """Return what would be tried and done, with the time of the network as it is; nothing is weighed."""
    from collections import Counter

    name = require(config)
    parent, record = trained.load(runs.open(runs.find(config.run, runs.root()))), runs.Unrecorded()
    dataset = sources.reopen(parent.run.read_json("dataset.json"), record, workers=config.workers)
    search = prepare(config, parent, dataset, record)
    wanted_s = target(config, search)
    return {
        "run": name,
        "batch": config.batch,
        "before_s": search.before_s,
        "target_s": wanted_s,
        "max_drop": config.max_drop,
        "exact": dict(Counter(edit.kind for edit in search.exact)),
        "proposals": dict(Counter(edit.kind for edit in search.proposals())),
        "calibration": len(search.material.calibration),
        "images": len(search.material.x),
        "healing": {"epochs": config.epochs, "seconds": config.time, "learning_rate": config.learning_rate} if config.heals else None,
    }


def plan(quoted: Mapping[str, Any]) -> str:
    """Return what `quote` found as text."""
    aim, heals = quoted["target_s"], quoted["healing"]
    goal = f"{1e3 * aim:.3f} ms" if aim is not None else f"as quick as a drop of {quoted['max_drop']:g} points allows"
    limits = [f"{heals['epochs']:g} epochs"] if heals and heals["epochs"] else []
    limits += [format_duration(heals["seconds"])] if heals and heals["seconds"] else []
    rows = [
        ["run", printable(quoted["run"])],
        ["time now", f"{1e3 * quoted['before_s']:.3f} ms a batch of {quoted['batch']}"],
        ["goal", goal],
        ["exact edits, made at once", _counted(quoted["exact"])],
        ["edits to weigh", _counted(quoted["proposals"])],
        ["losses from", f"{quoted['calibration']:,} training images"],
        ["accuracy on", f"{quoted['images']:,} images that nothing is fitted on"],
        ["healing", f"{' and '.join(limits)} at most, rate {heals['learning_rate']:g}" if heals else "none; --epochs or --time heal"],
    ]
    return table(["what", "plan"], rows) + "\n\nNothing was done."


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"


def prepare(
    config: Config, parent: trained.Trained, dataset: Dataset, record: runs.Listener, losses: edit_decision.Losses | None = None
) -> EditSearch:
    """Read the images, time the network and make the exact edits; ``losses`` keeps what edits are found to lose."""
    from convsmith import compiler
    from convsmith.jobs.edit_search import EditSearch, Material

    calibration = sources.pixels(dataset.train, parent.preprocess, config.calibration, config.workers)
    scored = sources.pixels(dataset.splits.get("val") or dataset.test, parent.preprocess, config.images, config.workers)
    timing = compiler.Timing(batch=config.batch, threads=config.threads)

    def progress(done: float, total: float, edit: str) -> None:
        record.progress("redesign", done, total, edit=edit)

    remembering = losses.remembering if losses is not None else (lambda estimate: estimate)
    return EditSearch(parent.graph, Material(*calibration, *scored), timing, config.edits, config.estimate, progress, remembering)


def target(config: Config, search: EditSearch) -> float | None:
    """Return the seconds that were asked for, None where the drop decides."""
    return config.max_ms / 1e3 if config.max_ms is not None else search.before_s / config.speedup if config.speedup else None


def choose(config: Config, search: EditSearch) -> redesign.Choice:
    """Return the edits for the time that was asked for, or as many as the drop allows."""
    target_s = target(config, search)
    if target_s is not None:
        choice = search.at(target_s)
        if choice is None:
            quickest = min([search.price(search.graph), *(option.seconds for option in search.options)])
            raise UsageError(
                f"no edits make it as quick as {1e3 * target_s:.3g} ms: it takes {1e3 * search.before_s:.3g} ms, and the quickest single "
                f"edit leaves {1e3 * quickest:.3g} ms; ask for less, or allow more kinds of edit"
            )
        return choice
    baseline = search.score(search.original).accuracy
    allowed = config.max_drop / 100 * (HEALED if config.heals else 1.0)

    def holds(graph: Graph) -> bool:
        return baseline - search.score(search.corrected(graph) if config.correct else graph).accuracy <= allowed + 1e-12

    return search.within(holds)


def follow(search: EditSearch, choice: redesign.Choice) -> list[dict[str, Any]]:
    """Return what each edit did, one after the other: predicted and measured time, and accuracy on the validation images."""
    from convsmith import redesign

    graph = search.original
    steps = [step_of(search, "original", graph, None)]
    losses = {option.edit: option.loss for option in choice.options}
    edits = (*search.exact, *choice.edits)
    for number, edit in enumerate(edits):
        graph = redesign.apply(graph, [edit])
        search.progress(number, len(edits), str(edit))
        steps.append(step_of(search, str(edit), graph, losses.get(edit, 0.0)))
    return steps


def step_of(search: EditSearch, name: str, graph: Graph, loss: float | None) -> dict[str, Any]:
    accuracy = search.score(graph).accuracy
    return {"edit": name, "predicted_s": search.price(graph), "measured_s": search.timing.whole(graph), "accuracy": accuracy, "loss": loss}


def report(config: Config, search: EditSearch, decision: Decision, parent: trained.Trained, child: trained.Trained) -> dict[str, Any]:
    """Return the part of redesign.json on time and size, before and after."""
    from convsmith import analysis

    samples = search.timing.compare({"before": parent.graph, "after": child.graph})
    seconds = {name: statistics.median(values) for name, values in samples.items()}
    counts = [analysis.analyse(network.graph) for network in (parent, child)]
    return {
        "max_drop": config.max_drop,
        "batch": config.batch,
        "edits": [edit.to_dict() for edit in decision.edits],
        "exact": decision.exact,
        "weighed": decision.weighed,
        "predicted_s": {"before": search.before_s, "after": search.price(child.graph)},
        "measured_s": seconds,
        "speedup": seconds["before"] / seconds["after"],
        "macs": [count.macs for count in counts],
        "parameters": [count.parameters for count in counts],
        "healed": config.heals,
    }


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text: what each edit did, then the whole."""
    rows = [
        [printable(step["edit"]), f"{1e3 * step['predicted_s']:.3f}", f"{1e3 * step['measured_s']:.3f}", percent(step["accuracy"])]
        for step in result["steps"]
    ]
    parts = [table(["edit", "predicted ms", "measured ms", "accuracy (val)"], rows), _summary(result)]
    if not result["edits"]:
        parts.append(
            "No edit of this network is quicker on this machine and loses so little. Allow a larger --max-drop, or --epochs to heal."
        )
    elif not result["holds"]:
        advice = "heal it with more --epochs" if result["healed"] else "heal it with --epochs or --time"
        parts.append(f"More was lost than the {result['max_drop']:g} points allowed: ask for less speed, or {advice}.")
    return "\n\n".join(parts)


def _summary(result: Mapping[str, Any]) -> str:
    before, after = (1e3 * result["measured_s"][name] for name in ("before", "after"))
    predicted = 1e3 * result["predicted_s"]["after"]
    return table(["what", "result"], [
        ["run", printable(result["folder"])],
["time", f"{after:.3f} ms a batch of {result['batch']} against {before:.3f}; predicted {predicted:.3f}"],
        ["speed", f"{result['speedup']:.2f} times as fast"],
        ["accuracy", f"{percent(result['accuracy'])} against {percent(result['baseline'])} on {result['n']:,} test images"],
        ["drop", f"{result['drop']:.2f} points (95 %: {result['drop_low']:.2f} to {result['drop_high']:.2f})"],
        ["multiplications", _change(result["macs"])],
        ["parameters", _change(result["parameters"])],
    ])  # fmt: skip


def _change(counts: Sequence[int]) -> str:
    return f"{counts[1]:,} instead of {counts[0]:,}"

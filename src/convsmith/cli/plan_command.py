"""``convsmith precision show``: a plan as a table, and what it makes of each tensor of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from convsmith.cli import output
from convsmith.cli.flags import Json
from convsmith.precision.plan import Plan

HELP = "Show a plan of number formats and, with a run or a model, what each of its tensors becomes."
app = App(name="show", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)


@app.default
def show(
    plan: Annotated[Path, Parameter(help="File of the plan")],
    /,
    *,
    run: Annotated[str | None, Parameter(help="Run whose network the plan is for: folder, name or 'last'", show_default=False)] = None,
    model: Annotated[str | None, Parameter(help="Architecture the plan is for", show_default=False)] = None,
    size: Annotated[int, Parameter(help="Side of the architecture's input in pixels")] = 32,
    channels: Annotated[int, Parameter(help="Channels of the architecture's input")] = 3,
    classes: Annotated[int, Parameter(help="Classes of the architecture")] = 10,
    json: Json = False,
) -> int:
    """Show a plan of number formats and, with a run or a model, what each of its tensors becomes."""
    read = Plan.load(plan)
    tensors = _tensors(read, run, model, (channels, size, size), classes) if run or model else None
    if json:
        rows = [] if tensors is None else [_row(tensor) for tensor in tensors]
        found = {"plan": read.to_dict()} | ({} if tensors is None else {"tensors": rows})
        return output.answer("precision show", found)
    print(read)
    if tensors is not None:
        from convsmith.precision.matching import table

        print(f"\n{table(tensors)}")
    return 0


def _tensors(plan: Plan, run: str | None, model: str | None, shape: tuple[int, int, int], classes: int) -> Any:
    """Return the tensors of the network with the rules that decide them."""
    import torch

    from convsmith import models, precision, runs
    from convsmith.errors import UsageError
    from convsmith.jobs import trained

    if run and model:
        raise UsageError("--run and --model are both given; a plan is shown for one network")
    if run:
        network = trained.load(runs.open(runs.find(run, runs.root())))
        preprocess = network.preprocess
        module, shape = network.module, (preprocess.channels, preprocess.height, preprocess.width)
    else:
        module = models.load(str(model), classes=classes, in_channels=shape[0], input_size=shape[1:])
    return precision.emulate(module, plan, torch.zeros(2, *shape)).assignments


def _row(tensor: Any) -> dict[str, Any]:
    rule = None if tensor.rule is None else tensor.rule.to_dict()
    return {"layer": tensor.layer, "operator": tensor.op, "role": tensor.role, "tensor": tensor.tensor, "rule": rule}

"""``convsmith precision certify``: proofs that a plan of number formats cannot change the class of an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from convsmith.cli import output
from convsmith.cli.progress import Display

HELP = "Prove for each test image that a plan of number formats cannot change its class, and that integer sums cannot overflow."
app = App(name="certify", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)


@app.default
def certify(
    run: Annotated[str, Parameter(help="Run: its folder, its name or the beginning of it, or 'last'")],
    /,
    *,
    plan: Annotated[str, Parameter(help="File of a plan, or a number format such as bf16 for all weights and activations")],
    images: Annotated[int, Parameter(help="Test images to certify, evenly spread; 0 takes all")] = 0,
    failure: Annotated[float, Parameter(help="Probability with which a proof in probability may fail, for each image")] = 1e-6,
    against: Annotated[
        Literal["float32", "exact"], Parameter(help="Whose class is kept: float32 as computed here, or exact arithmetic")
    ] = "float32",
    json: Annotated[bool, Parameter(name="--json", negative=(), help="Print one JSON document, errors too", show_default=False)] = False,
) -> int:
    """Prove for each test image that a plan of number formats cannot change its class, and that integer sums cannot overflow."""
    from convsmith import report, runs
    from convsmith.jobs import certify as job
    from convsmith.jobs.configuration import validate

    values: dict[str, Any] = {"run": run, "plan": plan, "images": images, "failure": failure, "against": against}
    config = validate(job.Config, values)
    folder = runs.find(run, runs.root())
    with Display(quiet=json) as display:
        record = runs.attach(folder)
        record.show_progress(display.show)
        result = job.run(config, record)
    page = report.write(folder)
    if json:
        output.document({"verb": "precision certify", "ok": True, "run": folder, "report": page, "result": result})
    else:
        print(f"{job.lines(result)}\n\nreport: {page}")
    return 0

"""Answer over HTTP what is on images: a run or an exported file, in worker processes that are watched."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs.settings import Settings, is_exported, positional
from convsmith.jobs.text import table

if TYPE_CHECKING:
    from convsmith import compiler, targets
    from convsmith.serving import Server

TUNE_S = 5.0


class Config(Settings):
    """Which network, where, with how many workers, and what is refused."""

    run: str = positional("Network: a run (its folder, its name, or 'last') or an exported file")
    name: str = Field("", description="Name of the model in its paths; by default that of the run or the file")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 takes requests from other machines, and there is no password")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one")
    engine: Literal["auto", "native", "onnxruntime", "openvino"] = Field(
        "auto", description="What computes: the native engine for a run, for a file its own runtime, by default"
    )
    workers: int = Field(0, ge=0, description="Worker processes; 0 takes one for each processor")
    threads: int = Field(1, ge=1, description="Processor threads of each worker")
    batch: int = Field(16, ge=1, le=256, description="Requests that a worker takes at once, at most")
    wait_ms: float = Field(0.0, ge=0, le=1000, description="How long an idle worker waits for more requests than it has")
    timeout_s: float = Field(10.0, gt=0, description="Seconds from a whole request to its answer; a worker that takes longer is replaced")
    max_mb: float = Field(16.0, gt=0, description="Largest body in megabytes")
    max_pixels: int = Field(50_000_000, ge=1, description="Largest image in pixels, told by its header before it is decoded")
    queue: int = Field(1024, ge=1, description="Requests that may wait; more are told to come back later (503)")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Serve until interrupted (Ctrl-C or SIGTERM), answer what was accepted, and return the counts."""
    from convsmith.kernels import processor_count
    from convsmith.serving import Batching, Limits, Server, Service
    from convsmith.serving.server import NAME

    with tempfile.TemporaryDirectory(prefix="convsmith-serve-") as folder:
        path, runtime, name = _file(config, Path(folder))
        name = config.name or name
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a model's name in a path; give --name of letters, digits, dots, dashes and underscores")
        limits = Limits(body_bytes=int(config.max_mb * 1e6), pixels=config.max_pixels, waiting=config.queue, answer_s=config.timeout_s)
        server = Server(
            Service(
                path,
                name,
                runtime,
                config.workers or processor_count(),
                config.threads,
                config.host,
                config.port,
                limits,
                Batching(config.batch, config.wait_ms / 1e3),
            )
        )
        asyncio.run(_serve(server, record))
    return _summary(server)


async def _serve(server: Server, record: runs.Listener) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    address = f"http://{server.service.host}:"

    def ready() -> None:
        where = f"{address}{server.port}"
        text = f"{server.service.name}: POST an image to {where}/predict; KServe v2 at {where}/v2, counts at {where}/metrics. Ctrl-C ends"
        record.event("stage", name="serve", text=text, port=server.port)

    await server.run(ready)


def _file(config: Config, folder: Path) -> tuple[Path, str | None, str]:
    """Return the file to serve, its runtime and its name; a run is written as one first, the engine tuned for what the workers will do."""
    from convsmith import targets
    from convsmith.jobs import classifier, trained

    if is_exported(config.run):
        path = Path(config.run).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no file {config.run!r}; `convsmith export RUN` writes one")
        return path, None if config.engine == "auto" else config.engine, path.stem
    network = trained.load(runs.open(runs.find(config.run, runs.root())))
    shipped = targets.Shipment(network.graph, network.preprocess, network.classes, classifier.confidence_of(network.run))
    if config.engine in ("auto", "native"):
        path = folder / "model.program"
        tuned(shipped, config.threads).save(path)
        return path, None, network.run.name
    path = folder / "model.onnx"
    path.write_bytes(targets.onnx_model(shipped).SerializeToString())
    return path, config.engine, network.run.name


def tuned(shipped: targets.Shipment, threads: int) -> compiler.Program:
    """Return the network compiled, its algorithms chosen by measuring at every size of batch that a worker runs."""
    from convsmith import compiler
    from convsmith.serving.model import SIZES

    program = compiler.build(shipped.graph, tune=TUNE_S, threads=threads, metadata=shipped.fields())
    p = shipped.preprocess
    for size in SIZES:
        program.executable((size, p.channels, p.height, p.width))
    return program


def _summary(server: Server) -> dict[str, Any]:
    metrics = server.metrics
    answers = {str(code): count for code, count in sorted(metrics.answers.items())}
    return {"answers": answers, "requests": sum(metrics.answers.values()), "images": metrics.images, "events": dict(metrics.events)}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = [[f"answered {code}", count] for code, count in result["answers"].items()]
    return table(["what", "count"], [*rows, ["images", result["images"]], *sorted(map(list, result["events"].items()))])

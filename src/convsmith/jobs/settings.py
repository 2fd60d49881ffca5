"""Settings that several verbs share, and what the command line must know of a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Those of `data.Preprocess`, which the command line's help must know without loading numpy.
ResizeMode = Literal["squash", "crop", "fill", "half_crop"]
Engine = Literal["auto", "torch", "native", "onnxruntime", "openvino", "qonnx", "torchscript", "torch-export", "tensorrt"]


def positional(description: str, **options: Any) -> Any:
    """Return a field that the command line takes without a flag."""
    return Field(description=description, json_schema_extra={"positional": True}, **options)


def text(default: Any, metavar: str, description: str, *, shown: str = "", **options: Any) -> Any:
    """Return a field whose flag takes text in a notation of its own, such as ``10m``; ``shown`` is the default in that notation."""
    return Field(default, description=description, json_schema_extra={"metavar": metavar, "shown": shown}, **options)


def is_exported(name: str) -> bool:
    """Tell whether a name is that of an exported file, which its ending says, rather than of a run."""
    from convsmith.targets.sessions import RUNTIME_OF

    return Path(name).suffix in RUNTIME_OF


class Settings(BaseModel):
    """Base of every verb's settings: immutable, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Images(Settings):
    """Labelled images and how they are split."""

    data: str = positional("Images: a folder of class folders, a CSV of path,label, idx, CIFAR, SVHN or npz files, or 'digits'")
    val: float | None = Field(
        None, ge=0, lt=1, description="Part held out to choose the best weights, where the data gives none; 0.2, of many images about 5,000"
    )
    test: float = Field(0.2, ge=0, lt=1, description="Part held out for the final test, where the data gives none")
    split_seed: int = Field(0, ge=0, description="Which images are held out")
    exclude: Path | None = Field(None, description="List of images to leave out, as `convsmith check --list` writes it")
    workers: int = Field(0, ge=0, description="Processes that decode images; 0 decodes in the main one")

"""Weights from files into a network: safetensors or torch checkpoints, never arbitrary pickles."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convsmith.errors import DataError, UsageError
from convsmith.models import legacy

SUFFIXES = (".safetensors", ".pth", ".pt", ".th")


def read(path: Path) -> dict[str, Tensor]:
    """Return the named arrays of a checkpoint.

    A `state_dict` or `model` entry is unwrapped and the prefix `module.` of DataParallel is cut. Torch checkpoints are read
    with a restricted unpickler, so a file cannot run code.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"weights {str(path)!r} end in {path.suffix or 'nothing'!r}; allowed are {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"no weights file {str(path)!r}")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else legacy.load(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read weights {str(path)!r}: {first}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{str(path)!r} holds no table of weights")
    return {key.removeprefix("module."): value for key, value in content.items()}


def load_weights(module: nn.Module, path: Path | str) -> tuple[str, ...]:
    """Copy the weights of a file into `module`; return the names of the arrays that kept their own start.

    Every name and shape must agree, with one exception: where the file has another number of classes, the last layer (and
    auxiliary heads) keep their random start, and a warning says so. Counters of batch norm may be absent.

    Raises: DataError that lists what is missing, unknown or of another shape.
    """
    given, own = read(Path(path)), module.state_dict()
    other_head = _other_head(module, given)
    problems = [f"missing {key}" for key in own if key not in given and not key.endswith("num_batches_tracked")]
    problems += [f"unknown {key}" for key in given if key not in own]
    problems += [
        f"{key} is {tuple(given[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in own
        if key in given and key not in other_head and given[key].shape != own[key].shape
    ]
    if problems:
        shown = "\n  ".join(problems[:12]) + (f"\n  and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise DataError(f"weights {str(path)!r} do not fit the network, {len(problems)} differences:\n  {shown}")
    if other_head:
        theirs, ours = given[other_head[0]].shape[0], own[other_head[0]].shape[0]
        text = f"{Path(path).name} was trained for {theirs} classes, the network has {ours}: {', '.join(other_head)} start at random"
        warnings.warn(text, UserWarning, stacklevel=2)
    module.load_state_dict({key: value for key, value in given.items() if key not in other_head}, strict=False)
    return other_head


def _other_head(module: nn.Module, given: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the arrays that differ in nothing but the number of classes, as the last layer has it."""
    own = module.state_dict()
    last = [name for name, child in module.named_modules() if isinstance(child, nn.Linear | nn.Conv2d)][-1] + ".weight"
    if last not in given or given[last].shape[1:] != own[last].shape[1:] or given[last].shape == own[last].shape:
        return ()
    ours, theirs = own[last].shape[0], given[last].shape[0]
    return tuple(
        key
        for key in own
        if key in given
        and given[key].shape != own[key].shape
        and given[key].shape == (theirs, *own[key].shape[1:])
        and own[key].shape[0] == ours
    )

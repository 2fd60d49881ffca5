"""timm/<name>: the networks of the timm library, an extra."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from convsmith.errors import ResourceError, UsageError, near
from convsmith.models.torchvision_guard import guard


def load_timm(
    name: str, classes: int, in_channels: int, input_size: tuple[int, int] | None, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    """Return the timm network of that name (with or without "timm/"); `input_size` goes to those that are built for one.

    Raises: UsageError when the extra is not installed or timm knows no such name; ResourceError when `pretrained` weights
    cannot be fetched.
    """
    name = _known(name)
    arguments = {"num_classes": classes, "in_chans": in_channels, **options}
    if input_size is not None:
        try:
            return _create(name, pretrained, {"img_size": input_size, **arguments})
        except TypeError:  # most convolutional networks of timm take any size and have no such argument
            pass
    return _create(name, pretrained, arguments)


def describe(name: str) -> dict[str, Any]:
    """Return how timm's weights of that name want their input: mean, std, size (rows, columns), and their number of classes.

    Raises: UsageError when the extra is not installed, timm knows no such name, or has no weights for it.
    """
    name = _known(name)
    import timm

    found = timm.models.get_pretrained_cfg(name)
    if found is None or not found.has_weights:
        raise UsageError(f"timm has no weights for {name!r}; timm.list_pretrained() names those that have some")
    return {"mean": tuple(found.mean), "std": tuple(found.std), "size": tuple(found.input_size[1:]), "classes": int(found.num_classes)}


def _known(name: str) -> str:
    """Return the name without "timm/", once timm is there and knows it."""
    name = name.removeprefix("timm/")
    if importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None:
        raise UsageError(f"timm/{name} needs timm and torchvision; install them with: pip install 'convsmith[zoo]'")
    guard()
    import timm

    if name.split(".")[0] not in timm.list_models():
        raise UsageError(f"timm has no model {name!r}.{near(name, timm.list_models())} See timm.list_models() for all names")
    return name


def _create(name: str, pretrained: bool, arguments: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    except OSError as error:
        raise ResourceError(f"cannot fetch the weights of timm/{name}: {str(error).splitlines()[0]}") from None
    except RuntimeError as error:
        raise UsageError(f"timm/{name} cannot be built: {str(error).splitlines()[0]}") from None
    return network

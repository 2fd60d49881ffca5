"""From a name to a torch module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from convsmith.errors import UsageError
from convsmith.models.lookup import check_size, find
from convsmith.models.weights import load_weights


def load(
    name: str,
    *,
    classes: int = 10,
    in_channels: int = 3,
    input_size: tuple[int, int] | None = None,
    pretrained: bool = False,
    weights: Path | str | None = None,
    cut: str | None = None,
    **options: Any,
) -> nn.Module:
    """Return the network of that name, in training mode.

    `input_size` is (height, width); None means that of the source. The start is drawn from torch's generator: set
    `torch.manual_seed` before. `weights` names a file whose arrays replace it; a head for another number of classes keeps its
    start, with a warning. `pretrained` is for timm/<name>, which fetches its own weights. `cut` names the module after which
    a new head follows (`models.cut`). `options` go to the family, for
    example `widths` of smallnet or `dropout`.

    Raises: UsageError for an unknown name (with the nearest), an input that is too small, an unknown option;
    DataError for weights that do not fit.
    """
    if classes < 1 or in_channels < 1:
        raise UsageError(f"classes and in_channels must be at least 1, got {classes} and {in_channels}")
    try:
        if name.startswith("timm/"):
            from convsmith.models.timm_models import load_timm

            network = load_timm(name, classes, in_channels, input_size, pretrained, options)
        else:
            network = _load_own(name, classes, in_channels, input_size, pretrained, options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise UsageError(f"{name} has no option {str(error).rsplit(maxsplit=1)[-1]}") from None
    if cut is not None:
        network = _cut(network, name, cut, classes, in_channels, input_size)
    if weights is not None:
        load_weights(network, weights)
    return network


def _cut(network: nn.Module, name: str, stage: str, classes: int, in_channels: int, input_size: tuple[int, int] | None) -> nn.Module:
    from convsmith.models.cut import cut

    height, width = input_size or (find(name).input[1:] if not name.startswith("timm/") else (224, 224))
    return cut(network, stage, classes, (in_channels, height, width))


def _load_own(
    name: str, classes: int, in_channels: int, input_size: tuple[int, int] | None, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    entry = find(name)
    size = entry.input[1:] if input_size is None else input_size
    check_size(name, entry, size)
    if pretrained:
        raise UsageError(f"no weights come with {name}; give a file with weights=..., or use timm/<name>, which fetches its own")
    return entry.build(classes=classes, in_channels=in_channels, input_size=size, **options)

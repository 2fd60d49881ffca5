"""Named sets of random changes that can be joined: ``resnet+lighting``, ``photos+erase``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convsmith.errors import near

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    # what `training.choose` takes
    "photos": {"shift": 0.1, "rotate": 10.0, "scale": 0.25, "light": 0.3},
    "characters": {"shift": 1 / 14, "rotate": 10.0, "scale": 0.1, "shear": 0.1},
    # one axis is time, the other frequency: neither turned nor slanted; parts hidden as by Park et al. 2019, SpecAugment, arXiv 1904.08779
    "spectrograms": {"erase": 0.25, "light": 0.2},
    "cifar": {"shift": 0.125},
    # He et al. 2015, arXiv 1512.03385, section 3.4; Szegedy et al. 2014, arXiv 1409.4842, section 6
    "resnet": {"crop": "resnet"},
    "inception": {"crop": "inception", "light": 0.4, "saturation": 0.4},
    # Krizhevsky et al. 2012, section 4.1
    "lighting": {"lighting": 0.1},
    "cameras": {"perspective": 0.1, "lens": 0.1, "blur": 1.0, "noise": 0.02, "jpeg": 50},
    "elastic": {"elastic": 0.03},
    "erase": {"erase": 0.25},
    "mix": {"mixup": 0.2, "cutmix": 1.0},
    "rand": {"policy": "rand"},
    "trivial": {"policy": "trivial"},
}


def joined(names: str) -> dict[str, Any]:
    """Return the changes of presets joined by ``+``; of two that set the same, the later one counts.

    Raises: ValueError for an unknown name.
    """
    found: dict[str, Any] = {}
    for name in (part.strip() for part in names.split("+")):
        if name not in PRESETS:
            raise ValueError(
                f"there is no augmentation {name!r}; there are {', '.join(PRESETS)}, and several joined by +.{near(name, PRESETS)}"
            )
        found |= PRESETS[name]
    return found

"""Which random number decides what: one column of uniforms for every choice, so that a new kind of change disturbs no other."""

from __future__ import annotations

from typing import Final

from convsmith.training.config import Augment

MIRROR: Final = 0
SHIFT_Y: Final = 1
SHIFT_X: Final = 2
ROTATE: Final = 3
SCALE: Final = 4
SHEAR: Final = 5
CONTRAST: Final = 6
BRIGHTNESS: Final = 7
ERASE_Y: Final = 8
ERASE_X: Final = 9
SATURATION: Final = 10
HUE: Final = 11
LIGHTING: Final = slice(12, 15)
STRETCH: Final = 15
CORNERS: Final = slice(16, 24)
LENS: Final = 24
MIRROR_VERTICAL: Final = 25
CROP_AREA: Final = 26
CROP_ASPECT: Final = 27
CROP_Y: Final = 28
CROP_X: Final = 29
BLUR: Final = 30
NOISE: Final = 31
JPEG: Final = 32
#: For each operation of a policy: which one, how strong, and in which direction.
POLICY: Final = slice(33, 45)
#: Control points of the elastic displacement, 2 x 8 x 8.
ELASTIC: Final = slice(45, 173)


def count(augment: Augment) -> int:
    """Return how many columns a configuration reads; the usual changes read the first ten only."""
    if augment.elastic:
        return ELASTIC.stop
    a = augment
    rare = (a.crop != "none", a.policy != "none", a.saturation, a.hue, a.lighting, a.stretch, a.perspective, a.lens, a.flip_vertical)
    return POLICY.stop if any((*rare, a.blur, a.noise, a.jpeg)) else ERASE_X + 1

"""The native kernels (native/bind.cc). Use them through `convsmith.formats`, which checks what it is given."""

import numpy as np
from numpy.typing import NDArray

def levels() -> list[str]: ...
def round_f32(
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    constants: tuple[bool | int | float, ...],
    factors: NDArray[np.float32] | None,
    inner: int,
    seed: int,
    stream: int,
    threads: int,
    level: str,
) -> None: ...

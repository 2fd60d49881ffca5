"""The native kernels (native/bind.cc). Use them through `convsmith.formats`, which checks what it is given."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def levels() -> list[str]: ...
def time_multiply_adds(level: str, turns: int, threads: int) -> float: ...
def time_triad(level: str, x: NDArray[np.float32], z: NDArray[np.float32], y: NDArray[np.float32], repeats: int, threads: int) -> float: ...
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
    zeros: NDArray[np.float32] | None = None,
    length: int = 0,
    group: int = 0,
) -> None: ...
def pack(codes: NDArray[np.unsignedinteger], out: NDArray[np.uint8], bits: int, threads: int) -> None: ...
def unpack(packed: NDArray[np.uint8], out: NDArray[np.unsignedinteger], bits: int, threads: int) -> None: ...
def round_blocks(
    x: NDArray[np.float32] | NDArray[np.float64],
    out: NDArray[np.float32],
    constants: tuple[bool | int | float, ...],
    size: int,
    length: int,
    inner: int,
    largest: int,
    low: int,
    high: int,
    fit: bool,
    most: float,
    seed: int,
    stream: int,
    threads: int,
    level: str,
) -> None: ...
def round_wide(
    x: NDArray[np.float32] | NDArray[np.float64],
    out: NDArray[np.float32] | NDArray[np.float64],
    constants: tuple[bool | int | float, ...],
    factors: NDArray[np.float32] | None,
    inner: int,
    seed: int,
    stream: int,
    threads: int,
    level: str,
    zeros: NDArray[np.float32] | None = None,
    length: int = 0,
    group: int = 0,
) -> None: ...
def convolution_names(level: str) -> list[str]: ...
def convolution_supports(level: str, name: str, sizes: list[int]) -> bool: ...
def convolution_prepared_floats(level: str, name: str, sizes: list[int]) -> int: ...
def convolution_workspace_bytes(level: str, name: str, sizes: list[int], threads: int) -> int: ...
def convolution_prepare(level: str, name: str, sizes: list[int], w_kcrs: NDArray[np.float32], prepared: NDArray[np.float32]) -> None: ...
def convolve(
    level: str,
    name: str,
    sizes: list[int],
    x: NDArray[np.float32],
    prepared: NDArray[np.float32],
    y: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    residual: NDArray[np.float32] | None,
    residual_pitch: int,
    activation: int,
    low: float,
    high: float,
    workspace: NDArray[np.float32],
    threads: int,
) -> None: ...
def integer_names(level: str) -> list[str]: ...
def integer_supports(level: str, name: str, sizes: list[int]) -> bool: ...
def integer_prepared_bytes(level: str, name: str, sizes: list[int]) -> int: ...
def integer_workspace_bytes(level: str, name: str, sizes: list[int], threads: int) -> int: ...
def integer_prepare(level: str, name: str, sizes: list[int], w_kcrs: NDArray[np.int8], prepared: NDArray[np.uint8]) -> None: ...
def integer_convolve(
    level: str,
    name: str,
    sizes: list[int],
    x: NDArray[np.uint8],
    zero: int,
    is_signed: bool,
    prepared: NDArray[np.uint8],
    y: NDArray[np.uint8],
    result: int,
    bias: NDArray[np.int32] | None,
    factor: NDArray[np.float32] | None,
    numbers: list[int],
    residual: NDArray[np.uint8] | None,
    residual_pitch: int,
    factors: list[float],
    workspace: NDArray[np.uint8],
    threads: int,
) -> None: ...
def gradient_names(level: str) -> list[str]: ...
def gradient_supports(level: str, name: str, sizes: list[int]) -> bool: ...
def gradient_workspace_bytes(level: str, name: str, sizes: list[int], threads: int) -> int: ...
def weight_gradient(
    level: str,
    name: str,
    sizes: list[int],
    x: NDArray[np.float32],
    dy: NDArray[np.float32],
    dw: NDArray[np.float32],
    workspace: NDArray[np.float32],
    threads: int,
) -> None: ...
def default_threads() -> int: ...

class Rounder:
    def __init__(self, constants: tuple[bool | int | float, ...]) -> None: ...
    def round(
        self,
        x: int,
        out: int,
        size: int,
        seed: int,
        stream: int,
        threads: int,
        level: str | None,
        factors: int = 0,
        count: int = 0,
        inner: int = 1,
    ) -> None: ...
    def round_many(
        self,
        x: Sequence[int],
        out: Sequence[int],
        sizes: Sequence[int],
        seed: int,
        streams: Sequence[int],
        threads: int,
        level: str | None,
    ) -> None: ...
    def round_columns(
        self, x: int, out: int, outer: int, rows: int, columns: int, seed: int, stream: int, threads: int, level: str | None
    ) -> None: ...
    def count(
        self,
        x: int,
        out: int,
        size: int,
        seed: int,
        stream: int,
        threads: int,
        level: str | None,
        factors: int = 0,
        count: int = 0,
        inner: int = 1,
    ) -> tuple[int, int, int, int]: ...

def rounded_product(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    out: NDArray[np.float32],
    tables: list[NDArray[np.int64]],
    sizes: tuple[int, int, int, int, int, int],
    sum: tuple[bool | int | float, ...],
    product: tuple[bool | int | float, ...] | None,
    same_format: bool,
    order: int,
    block: int,
    draw_width: int,
    key: tuple[int, int],
    threads: int,
    level: str,
) -> None: ...
def second_cache() -> int: ...

class Program:
    def __init__(self, level: str, arena_floats: int, input_floats: list[int], output_floats: list[int]) -> None: ...
    def constant(self, array: NDArray[np.float32]) -> int: ...
    def add(
        self,
        kind: str,
        algorithm: str,
        places: list[tuple[int, int, int]],
        sizes: list[int] | tuple[int, ...],
        numbers: list[float] | tuple[float, ...],
        threads: int,
    ) -> None: ...
    def run(self, inputs: list[NDArray[np.float32]], outputs: list[NDArray[np.float32]]) -> None: ...
    def timed(self, inputs: list[NDArray[np.float32]], outputs: list[NDArray[np.float32]], repeats: int) -> float: ...
    def profile(self, inputs: list[NDArray[np.float32]], outputs: list[NDArray[np.float32]]) -> list[float]: ...

def binary_pack_signs(level: str, x: NDArray[np.float32], channels: int, packed: NDArray[np.uint64], threads: int) -> bool: ...
def binary_prepared_words(level: str, columns: int, words: int, planes: int) -> int: ...
def binary_prepare(level: str, columns: int, words: int, planes: int, b: NDArray[np.uint64], prepared: NDArray[np.uint64]) -> None: ...
def binary_multiply(
    level: str,
    rows: int,
    columns: int,
    words: int,
    planes: int,
    a: NDArray[np.uint64],
    prepared: NDArray[np.uint64],
    base: NDArray[np.int32],
    c: NDArray[np.int32],
    threads: int,
) -> None: ...
def binary_workspace_bytes(level: str, sizes: list[int], planes: int, threads: int) -> int: ...
def binary_convolve(
    level: str,
    sizes: list[int],
    planes: int,
    zero_border: bool,
    x: NDArray[np.uint64],
    prepared: NDArray[np.uint64],
    base: NDArray[np.int32],
    tap_sums: NDArray[np.int32],
    output: int,
    scale: NDArray[np.float32] | None,
    shift: NDArray[np.float32] | None,
    direction: NDArray[np.int32] | None,
    threshold: NDArray[np.int32] | None,
    y: NDArray[np.uint8],
    workspace: NDArray[np.uint64],
    threads: int,
) -> None: ...
def resample_bytes(
    pictures: list[NDArray[np.uint8]],
    boxes: NDArray[np.int32],
    mirrored: NDArray[np.uint8],
    out: NDArray[np.uint8],
    threads: int,
    level: str,
) -> None: ...
def resample_floats(
    pictures: list[NDArray[np.uint8]],
    boxes: NDArray[np.int32],
    mirrored: NDArray[np.uint8],
    out: NDArray[np.float32],
    channels_last: bool,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    threads: int,
    level: str,
) -> None: ...

"""The formats known by name, each with its source."""

from __future__ import annotations

from typing import Final

from convsmith.errors import UsageError
from convsmith.formats.format import Format
from convsmith.formats.notation import parse_notation

CATALOGUE: Final[dict[str, Format]] = {
    "fp32": Format.float(8, 23),
    "tf32": Format.float(8, 10),
    "bf16": Format.float(8, 7),
    "fp16": Format.float(5, 10),
    "e5m2": Format.float(5, 2),
    "e4m3fn": Format.float(4, 3, specials="fn"),
    "e3m2": Format.float(3, 2, specials="finite"),
    "e2m3": Format.float(2, 3, specials="finite"),
    "e2m1": Format.float(2, 1, specials="finite"),
    "int8": Format.integer(8),
    "uint8": Format.integer(8, signed=False),
    "int4": Format.integer(4),
    "q2.14": Format.fixed(2, 14),
    "q4.12": Format.fixed(4, 12),
    "q6.10": Format.fixed(6, 10),
    "q8.8": Format.fixed(8, 8),
}

SOURCES: Final[dict[str, str]] = {
    "fp32": "IEEE 754-2019 binary32",
    "tf32": "NVIDIA A100 architecture white paper, 2020: 8 exponent and 10 fraction bits",
    "bf16": "Intel BFLOAT16 hardware numerics definition, 2018",
    "fp16": "IEEE 754-2019 binary16",
    "e5m2": "OCP 8-bit floating point specification 1.0, 2023; Micikevicius et al. 2022, arXiv 2209.05433",
    "e4m3fn": "OCP 8-bit floating point specification 1.0, 2023 (E4M3); Micikevicius et al. 2022, arXiv 2209.05433",
    "e3m2": "OCP microscaling formats 1.0, 2023 (FP6)",
    "e2m3": "OCP microscaling formats 1.0, 2023 (FP6)",
    "e2m1": "OCP microscaling formats 1.0, 2023 (FP4)",
    "int8": "two's complement, 8 bits",
    "uint8": "unsigned, 8 bits",
    "int4": "two's complement, 4 bits",
    "q2.14": "Gupta et al. 2015, arXiv 1502.02551: weights <2,14>",
    "q4.12": "Gupta et al. 2015, arXiv 1502.02551: CIFAR-10 layer outputs <4,12>",
    "q6.10": "Gupta et al. 2015, arXiv 1502.02551: MNIST layer outputs <6,10>",
    "q8.8": "fixed point with 16 bits, half of them fraction",
}


def register(name: str, fmt: Format, source: str) -> None:
    """Add a format under a new name.

    Raises: UsageError when the name is taken, or is already a text that `parse` reads (its meaning must not change).
    """
    if name in CATALOGUE:
        raise UsageError(f"A format named {name!r} exists already ({CATALOGUE[name]}); choose another name.")
    if parse_notation(name) is not None:
        raise UsageError(f"{name!r} is the notation of a format, so it cannot be a name for {fmt}; choose another name.")
    CATALOGUE[name] = fmt
    SOURCES[name] = source

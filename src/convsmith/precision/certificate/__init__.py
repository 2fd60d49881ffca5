"""Proofs that the class of an image cannot change under a plan, and that integer accumulators cannot overflow."""

import importlib
from typing import TYPE_CHECKING, Any

from convsmith.precision.certificate.roundoff import Roundoff, SumBound, probable, roundoff, worst
from convsmith.precision.certificate.setting import SUPPORTED, Setting, decided, describe
from convsmith.precision.certificate.widths import Widths, accumulator_widths, overflows, worst_input
from convsmith.precision.overflow import bits_for

if TYPE_CHECKING:
    from convsmith.precision.certificate.machine import MACHINE_ORDERS, compute
    from convsmith.precision.certificate.proof import Certificates, certify

NEED_TORCH = {"MACHINE_ORDERS": "machine", "compute": "machine", "Certificates": "proof", "certify": "proof"}

__all__ = [
    "MACHINE_ORDERS",
    "SUPPORTED",
    "Certificates",
    "Roundoff",
    "Setting",
    "SumBound",
    "Widths",
    "accumulator_widths",
    "bits_for",
    "certify",
    "compute",
    "decided",
    "describe",
    "overflows",
    "probable",
    "roundoff",
    "worst",
    "worst_input",
]


def __getattr__(name: str) -> Any:
    if name in NEED_TORCH:
        return getattr(importlib.import_module(f"convsmith.precision.certificate.{NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a number is, and rounding to it: formats as data, seven rounding modes, the same bits in every implementation."""

from convsmith.formats.blocks import shared_exponents
from convsmith.formats.catalogue import CATALOGUE, SOURCES, register
from convsmith.formats.format import SHARED_EXPONENT, Carrier, Format, Kind, ScaleRule, Specials
from convsmith.formats.limits import epsilon, max_value, min_value, smallest_normal, smallest_positive, values
from convsmith.formats.modes import MAX_RANDOM_BITS, MAX_WIDE_RANDOM_BITS, OVERFLOWS, ROUNDINGS, Overflow, Rounding
from convsmith.formats.random_bits import random_words, wide_random_words
from convsmith.formats.reading import parse
from convsmith.formats.rounding import round_array, round_numpy
from convsmith.formats.specification import round_scalar

__all__ = [
    "CATALOGUE",
    "MAX_RANDOM_BITS",
    "MAX_WIDE_RANDOM_BITS",
    "OVERFLOWS",
    "ROUNDINGS",
    "SHARED_EXPONENT",
    "SOURCES",
    "Carrier",
    "Format",
    "Kind",
    "Overflow",
    "Rounding",
    "ScaleRule",
    "Specials",
    "epsilon",
    "max_value",
    "min_value",
    "parse",
    "random_words",
    "register",
    "round_array",
    "round_numpy",
    "round_scalar",
    "shared_exponents",
    "smallest_normal",
    "smallest_positive",
    "values",
    "wide_random_words",
]

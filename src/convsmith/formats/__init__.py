"""What a number is, and rounding to it: formats as data, seven rounding modes, the same bits in every implementation."""

from convsmith.formats.catalogue import CATALOGUE, SOURCES, register
from convsmith.formats.format import Format, Kind, Specials
from convsmith.formats.limits import epsilon, max_value, min_value, smallest_normal, smallest_positive, values
from convsmith.formats.modes import MAX_RANDOM_BITS, OVERFLOWS, ROUNDINGS, Overflow, Rounding
from convsmith.formats.random_bits import random_words
from convsmith.formats.reading import parse
from convsmith.formats.rounding import round_array, round_numpy
from convsmith.formats.specification import round_scalar

__all__ = [
    "CATALOGUE",
    "MAX_RANDOM_BITS",
    "OVERFLOWS",
    "ROUNDINGS",
    "SOURCES",
    "Format",
    "Kind",
    "Overflow",
    "Rounding",
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
    "smallest_normal",
    "smallest_positive",
    "values",
]

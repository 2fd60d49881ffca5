"""What a number is, and rounding to it: formats as data, seven rounding modes, the same bits in every implementation."""

from convsmith.formats.affine import Affine, fit_min_max, fit_mse, fit_percentile
from convsmith.formats.block_specification import round_block, shared_exponent
from convsmith.formats.blocks import shared_exponents
from convsmith.formats.catalogue import CATALOGUE, SOURCES, register
from convsmith.formats.code_specification import decode_scalar, encode_scalar
from convsmith.formats.codes import decode, encode, pack, packed_bytes, unpack
from convsmith.formats.dynamic import DynamicRange, adapt, count_overflows, observe
from convsmith.formats.format import SHARED_EXPONENT, Carrier, Format, Kind, ScaleRule, Specials
from convsmith.formats.limits import epsilon, max_value, min_value, smallest_normal, smallest_positive, values
from convsmith.formats.modes import MAX_RANDOM_BITS, MAX_WIDE_RANDOM_BITS, OVERFLOWS, ROUNDINGS, Overflow, Rounding
from convsmith.formats.packed_tensor import PackedTensor, load, pack_tensor, save, unpack_tensor
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
    "Affine",
    "Carrier",
    "DynamicRange",
    "Format",
    "Kind",
    "Overflow",
    "PackedTensor",
    "Rounding",
    "ScaleRule",
    "Specials",
    "adapt",
    "count_overflows",
    "decode",
    "decode_scalar",
    "encode",
    "encode_scalar",
    "epsilon",
    "fit_min_max",
    "fit_mse",
    "fit_percentile",
    "load",
    "max_value",
    "min_value",
    "observe",
    "pack",
    "pack_tensor",
    "packed_bytes",
    "parse",
    "random_words",
    "register",
    "round_array",
    "round_block",
    "round_numpy",
    "round_scalar",
    "save",
    "shared_exponent",
    "shared_exponents",
    "smallest_normal",
    "smallest_positive",
    "unpack",
    "unpack_tensor",
    "values",
    "wide_random_words",
]

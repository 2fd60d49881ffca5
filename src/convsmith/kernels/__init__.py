"""Convolution algorithms and network operators on arrays: the reference ones, and what they have in common."""

from convsmith.kernels.algorithms import ALGORITHMS, Algorithm, register
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.geometry import ConvolutionShape, convolution_shape
from convsmith.kernels.integers import IntegerEpilogue
from convsmith.kernels.machine import instruction_set, instruction_sets, processor, processor_count
from convsmith.kernels.native import Epilogue

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Arithmetic",
    "ConvolutionShape",
    "Epilogue",
    "IntegerEpilogue",
    "convolution_shape",
    "instruction_set",
    "instruction_sets",
    "processor",
    "processor_count",
    "register",
]

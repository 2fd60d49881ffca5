"""Convolution algorithms and network operators on arrays: the reference ones, and what they have in common."""

from convsmith.kernels.algorithms import ALGORITHMS, Algorithm, register
from convsmith.kernels.convolution_shape import ConvolutionShape, convolution_shape

__all__ = ["ALGORITHMS", "Algorithm", "ConvolutionShape", "convolution_shape", "register"]

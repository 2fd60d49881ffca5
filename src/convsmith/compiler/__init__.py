"""A graph becomes a program: one algorithm a layer, no torch."""

from convsmith.compiler.program import Program, build

__all__ = ["Program", "build"]

"""A graph becomes a program: passes, plan, native steps; no torch."""

from convsmith.compiler.engines import compare_engines
from convsmith.compiler.interpreter import Interpreter, interpret
from convsmith.compiler.lowering import simplify
from convsmith.compiler.profiling import Profile, profile
from convsmith.compiler.program import Program, build, load
from convsmith.compiler.shipping import open_session
from convsmith.compiler.timing import Timing, recall_prices, remember_prices

__all__ = [
    "Interpreter",
    "Profile",
    "Program",
    "Timing",
    "build",
    "compare_engines",
    "interpret",
    "load",
    "open_session",
    "profile",
    "recall_prices",
    "remember_prices",
    "simplify",
]

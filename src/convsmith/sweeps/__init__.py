"""Many trials of one verb with different settings: the space, the study they share, and what they show together.

A study lives in a database that several processes, on several machines, work on at once. Promises: a trial is taken by one worker; a trial
whose worker was killed is done again; their number is fixed when the study begins, whoever works on it.
"""

from convsmith.sweeps.findings import Results, results
from convsmith.sweeps.space import Axis, grid, nested, parse
from convsmith.sweeps.study import Shared, Spec, begin, join

__all__ = ["Axis", "Results", "Shared", "Spec", "begin", "grid", "join", "nested", "parse", "results"]

"""What an update of a training costs in operations on bits, under the plan of its phase."""

from __future__ import annotations

from dataclasses import dataclass

from convsmith.errors import UsageError
from convsmith.graph.network import Graph
from convsmith.precision.matching import Assignment, decide
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Role
from convsmith.precision.workload import Workload, workload


@dataclass(frozen=True)
class TrainingWork:
    """A network that is trained with batches of ``batch`` images, ``steps`` updates in an epoch."""

    workload: Workload
    inputs: tuple[str, ...]
    parameters: dict[str, int]
    batch: int
    steps: int

    def update(self, plan: Plan | None, phase: int = 0) -> float:
        """Return the bit operations of one update: a product counts the bits of one factor times those of the other, a sum its bits.

        Forward weights times activations, backward weights times errors (not into the network's input) and activations times errors;
        each with an accumulator. Then each parameter once as gradient, momentum, update and weight. What no rule speaks of has 32 bits.
        """
        plan = plan or Plan()
        cost = 0.0
        for work in self.workload.works:
            source = self.workload.layers[work.source][0] if work.source else work.layer
            w, e = self._bits(plan, phase, work.layer, "weight"), self._bits(plan, phase, work.layer, "error")
            a = self._bits(plan, phase, source, "activation")
            sums = self._bits(plan, phase, work.layer, "accumulator")
            back = 0 if work.source in self.inputs else w * e + sums
            cost += self.batch * work.macs * (w * a + sums + back + a * e + sums)
            numbers = self.parameters.get(work.layer, 0)
            stored: tuple[Role, ...] = ("weight", "weight_gradient", "momentum", "update")
            cost += numbers * sum(self._bits(plan, phase, work.layer, role) for role in stored)
        return cost

    def run(self, plan: Plan | None, epochs: float) -> float:
        """Return the bit operations of a run of so many epochs; phases that begin when the loss stalls are refused by their name.

        Raises: ``UsageError`` for a phase that begins at a stall, whose time is known only afterwards.
        """
        plan = plan or Plan()
        whole = round(epochs * self.steps)
        begins = [0]
        for phase in plan.phases:
            if phase.start.when == "stall":
                raise UsageError("the cost of a phase that begins at a stall is known only after the run; give it a step or an epoch")
            begins.append(min(whole, round(phase.start.at * (self.steps if phase.start.when == "epoch" else 1))))
        lengths = [end - begin for begin, end in zip(begins, [*begins[1:], whole], strict=True)]
        return sum(max(0, length) * self.update(plan, phase) for phase, length in enumerate(lengths))

    def longest_sum(self) -> int:
        """Return the most terms that a sum of products has: of inputs, of outputs, or over batch and positions for a weight."""
        longest = 1
        for work in self.workload.works:
            weights = max(1, self.workload.numbers.get(work.weight, 1))
            longest = max(longest, work.terms, weights // work.terms, self.batch * max(1, work.macs // weights))
        return longest

    def _bits(self, plan: Plan, phase: int, layer: str, role: Role) -> int:
        rule = decide(plan.rules_of(phase), plan.exempt, Assignment(layer, "", role, "", None)).rule
        return 32 if rule is None or rule.format is None else rule.format.bits


def training_work(graph: Graph, batch: int, steps: int) -> TrainingWork:
    """Return the work of training a network."""
    found = workload(graph)
    parameters = {work.layer: found.numbers[work.weight] for work in found.works if work.weight}
    return TrainingWork(found, tuple(value.name for value in graph.inputs), parameters, batch, steps)

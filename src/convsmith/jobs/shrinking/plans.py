"""The number formats that are tried on one network, as functions that make it, quickest answers first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from convsmith.jobs.shrinking.workshop import DIRECT, Made, Workshop

if TYPE_CHECKING:
    from convsmith.graph.network import Graph
    from convsmith.redesign import Edit

Maker = Callable[[], Made | None]
Tell = Callable[[int, int, str], Any]


def plans(shop: Workshop, evaluations: int, max_drop: float, tell: Tell | None = None) -> Iterator[tuple[str, Maker]]:
    """Yield name and maker of each plan for the network as it is: float32, codes, 16-bit weights, narrower weights layer by layer."""
    from convsmith.precision import Plan

    yield "float32", lambda: Made("float32", shop.folded, shop.folded, Plan(), "")
    yield "int8", lambda: coded(shop, shop.folded, "int8", tell=tell)
    yield "bf16 weights", lambda: stored(shop, "bf16")
    yield "float32, direct sums", lambda: Made("float32, direct sums", shop.folded, shop.folded, Plan(), "", accuracy=DIRECT)
    if evaluations:
        yield "narrow weights", lambda: narrow(shop, evaluations, max_drop, tell)


def coded(
    shop: Workshop, plain: Graph, name: str, *, edits: tuple[Edit, ...] = (), predicted_share: float | None = None, tell: Tell | None = None
) -> Made:
    """Return a network in 8-bit codes by the best recipe."""
    from convsmith import precision
    from convsmith.precision.post_training import PostTraining

    plan = precision.candidate("int8", precision.layout(plain)).plan
    found = PostTraining(plain, plan, shop.calibration, tell).choose()
    return Made(name, found.codes, found.graph, found.plan, str(found.recipe), edits, predicted_share)


def stored(shop: Workshop, fmt: str) -> Made:
    """Return the network with weights stored in 16 bits, computed in float32."""
    from convsmith import precision

    plan = precision.candidate(fmt, precision.layout(shop.folded), "weight").plan
    return Made(f"{fmt} weights", precision.quantise(shop.folded, plan), shop.folded, plan, "rounding")


def narrow(shop: Workshop, evaluations: int, max_drop: float, tell: Tell | None) -> Made | None:
    """Return the network in 8-bit activations with the fewest bits of each layer's weights that keep the limit; None where 8 are needed."""
    from dataclasses import replace

    from convsmith import precision
    from convsmith.formats import Format
    from convsmith.precision.post_training import PostTraining

    score = precision.scorer(shop.folded, shop.x, shop.labels, calibration=shop.calibration)
    found = precision.find_plan(
        shop.folded, score, ["int2", "int3", "int4", "int5", "int6", "int8"], max_drop, "weight bits", tell,
        tensors="weight", evaluations=evaluations,
    )  # fmt: skip
    codes = precision.candidate("int8", precision.layout(shop.folded)).plan
    rules = (*(rule for rule in found.plan.rules if rule.role == "weight"), *(rule for rule in codes.rules if rule.role == "activation"))
    if not found.plan.rules or all(rule.format == Format.integer(8, symmetric=True) for rule in rules if rule.role == "weight"):
        return None
    plan = replace(codes, rules=rules, name="narrow weights")
    # rounding up or down would take minutes; the search above scored nearest rounding
    made = PostTraining(shop.folded, plan, shop.calibration, tell).choose(["equalise", "bias"])
    return Made("narrow weights", made.codes, made.graph, made.plan, str(made.recipe))

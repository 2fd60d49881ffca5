"""Courbariaux, Bengio, David 2014: 10 bits for what passes and 12 for what is kept suffice, when ranges follow the numbers."""

from __future__ import annotations

from convsmith.formats import Format, parse
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Role
from convsmith.training.config import Schedule, Training
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup
from convsmith.training.reproductions.plans import BATCH, dynamic, stored

PROPAGATED: tuple[Role, ...] = ("activation", "error", "weight_gradient")
KEPT: tuple[Role, ...] = ("weight", "bias", "update", "momentum")
RANGES: dict[Role, int] = {
    "activation": 4, "error": -4, "weight_gradient": -2, "weight": 1, "bias": 1, "update": -4, "momentum": -2,
}  # fmt: skip
"""Integer bits, sign included, that each tensor begins with; they move within a few intervals."""


def dynamic_fixed(propagated: int = 10, kept: int = 12, interval: int = 100) -> Plan:
    """Return dynamic fixed point: ranges follow the rate of overflow, which may be 0.01 %, looked at every ``interval`` batches."""
    bits: dict[Role, int] = {role: propagated if role in PROPAGATED else kept for role in RANGES}
    return dynamic(f"dynamic fixed {propagated}/{kept}", RANGES, bits, interval, 1e-4)


def _arms(interval: int, seeds: int) -> tuple[Arm, ...]:
    half, fixed = parse("fp16"), Format.fixed(6, 14, symmetric=True)
    return (
        Arm("float32", None, 1.05, "table 3"),
        Arm("half 16/16", stored("half 16/16", half, half, "nearest_even"), 1.10, "table 3", seeds=seeds),
        Arm("fixed 20/20", stored("fixed 20/20", fixed, fixed, "nearest_away"), 1.39, "table 3", seeds=seeds),
        Arm("dynamic fixed 10/12", dynamic_fixed(interval=interval), 1.28, "table 3"),
    )


def _training(epochs: float, floor: float, settle: float, **more: object) -> Training:
    common = {
        "epochs": epochs,
        "batch": BATCH,
        "optimizer": "sgd",
        "nesterov": False,
        "learning_rate": 0.05,
        "schedule": Schedule(kind="linear", floor=floor, settle=settle),
        "momentum": 0.7,
        "momentum_start": 0.5,
        "momentum_rise": 0.25,
        "weight_decay": 0.0,
        "max_norm": 1.9365,
    }
    return Training.model_validate(common | more)


MAXOUT = Experiment(
    "maxout",
    "Permutation-invariant MNIST: two maxout layers of 240 units with 5 pieces, dropout, limited norms",
    "mnist",
    "maxout_mnist",
    {
        "full": Setup(_arms(100, 3), _training(800, 0.1, 0.5)),
        "quick": Setup(
            _arms(25, 1),
            _training(6, 0.05, 1.0, validate_every=3),
            images=20_000,
            seeds=2,
            options={"dropout_in": 0.1, "dropout": 0.25},
            shortened="20,000 training images, 6 epochs, half the dropout (0.1 of the input, 0.25 of the hidden units), ranges looked at "
            "every 25 batches",
        ),
    },
    claims=(
        Claim("within", "dynamic fixed point with 10 and 12 bits stays within 0.3 points of float32", "dynamic fixed 10/12", 0.3),
        Claim(
            "order",
            "the errors rise in the paper's order: float32, half, dynamic 10/12, fixed 20/20 (0.1 points of noise allowed)",
            arms=("float32", "half 16/16", "dynamic fixed 10/12", "fixed 20/20"),
            points=0.1,
        ),
    ),
    differs=(
        "The paper finds the first ranges by two epochs with 31 bits and begins anew; ours begin at fixed guesses and move from there.",
        "The loss is the mean of a batch of 100, and so are errors and gradients.",
        "One range for each tensor of a layer, momentum among them; fixed 20/20 has 6 integer bits, the sign among them.",
        "5,000 of the 60,000 training images choose the weights that are tested.",
        "Quick: after 6 epochs the error is three times the paper's. Fixed 20/20 loses updates smaller than its step, and we expect it to "
        "fall behind only where a long training makes them that small.",
    ),
)

PAPER = Paper(
    "courbariaux2014",
    "M. Courbariaux, Y. Bengio, J.-P. David 2014, Training deep neural networks with low precision multiplications, arXiv 1412.7024",
    "Bits of what is propagated / bits of the parameters and their updates; nothing is kept in float32.",
    (MAXOUT,),
)

"""RIPS 2017: bits cut off the significands of float32 by masks, after each operation and after each batch."""

from __future__ import annotations

from convsmith.formats import Format
from convsmith.precision.plan import Plan, Rule
from convsmith.training.config import Schedule, Training
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup

KEPT_BITS = (1, 2, 3, 4, 6, 8, 12)


def after_operations(bits: int) -> Plan:
    """Return the plan that cuts the result of every operation, of network, loss and update, to ``bits`` stored fraction bits."""
    fmt = Format.float(8, bits)
    rules = [Rule("*", role, fmt, "operation", "toward_zero") for role in ("activation", "error", "accumulator", "update")]
    rules += [Rule("*", role, fmt, rounding="toward_zero") for role in ("weight", "bias")]
    return Plan(tuple(rules), f"{bits} bits, operations", master=False)


def after_batches(bits: int) -> Plan:
    """Return the plan that cuts the parameters alone, once after the update of each batch."""
    fmt = Format.float(8, bits)
    return Plan(tuple(Rule("*", role, fmt, rounding="toward_zero") for role in ("weight", "bias")), f"{bits} bits, batches", master=False)


def _arms(bits: tuple[int, ...]) -> tuple[Arm, ...]:
    arms = [Arm("float32", x=23)]
    for kept in bits:
        arms += [
            Arm(f"operations, {kept} bit{'s' if kept > 1 else ''}", after_operations(kept), x=kept),
            Arm(f"batches, {kept} bit{'s' if kept > 1 else ''}", after_batches(kept), x=kept),
        ]
    return tuple(arms)


def _training(epochs: float, rate: float, **more: object) -> Training:
    common = {"epochs": epochs, "batch": 100, "optimizer": "sgd", "momentum": 0.0, "nesterov": False, "learning_rate": rate}
    return Training.model_validate(common | {"schedule": Schedule(kind="constant"), "weight_decay": 0.0} | more)


CLAIMS = (
    Claim("within", "12 kept bits after each operation stay within 0.5 points of float32", "operations, 12 bits", 0.5),
    Claim("above", "2 kept bits after each operation cost 2 points or more", "operations, 2 bits", 2.0),
    Claim("above", "2 kept bits after each batch cost 2 points or more: small updates are cut off whole", "batches, 2 bits", 2.0),
)
DIFFERS = ("The work's own figures are not printed here, since we have no copy of them to quote; the curves are ours alone.",)
AXIS = "fraction bits kept of 23"

LOGISTIC = Experiment(
    "logistic",
    "Logistic regression on MNIST",
    "mnist",
    "logistic",
    {
        "full": Setup(_arms(KEPT_BITS), _training(20, 0.1)),
        "quick": Setup(
            _arms(KEPT_BITS), _training(3, 0.1, validate_every=3), images=10_000, seeds=2, shortened="10,000 training images, 3 epochs"
        ),
    },
    CLAIMS,
    DIFFERS,
    axis=AXIS,
)

CONVNET = Experiment(
    "convnet",
    "A ConvNet on MNIST: two 5x5 convolutions and a hidden layer",
    "mnist",
    "gupta_lenet",
    {
        "full": Setup(_arms(KEPT_BITS), _training(20, 0.1)),
        "quick": Setup(
            _arms((2, 4, 6, 8, 12)),
            _training(3, 0.1, validate_every=3),
            images=4_000,
            seeds=1,
            options={"maps": (4, 8), "hidden": 64},
            shortened="4 and 8 maps and 64 hidden units instead of 8, 16 and 128, 4,000 training images, 3 epochs, one seed",
        ),
    },
    CLAIMS,
    DIFFERS,
    axis=AXIS,
)

PAPER = Paper(
    "rips2017",
    "RIPS 2017: ConvNets and logistic regression with truncated significands",
    "Numbers are float32 with the last fraction bits set to zero by a mask, which rounds toward zero.",
    (LOGISTIC, CONVNET),
)

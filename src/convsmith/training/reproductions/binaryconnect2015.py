"""BinaryConnect 2015: weights of one bit in the products, float32 copies for the updates."""

from __future__ import annotations

from convsmith.training.config import Schedule, Training
from convsmith.training.reproductions import binary
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup

SCALED = {"rate_scale": "glorot"}


def _arms(twin_rate: float, seeds: int) -> tuple[Arm, ...]:
    return (
        Arm("float32", None, 1.30, "table 2, no regularizer", training={"learning_rate": twin_rate}),
        Arm("deterministic", binary.connect("*.linear"), 1.29, "table 2", training=SCALED),
        Arm("stochastic", binary.connect("*.linear", stochastic=True), 1.18, "table 2", training=SCALED, seeds=seeds),
    )


def training(epochs: float, batch: int, first: float, last: float, **more: object) -> Training:
    """Return Adam on the squared hinge loss with a rate that falls exponentially from ``first`` to ``last``."""
    common = {
        "epochs": epochs,
        "batch": batch,
        "optimizer": "adam",
        "loss": "squared_hinge",
        "learning_rate": first,
        "schedule": Schedule(kind="exponential", gamma=(last / first) ** (1 / epochs)),
        "weight_decay": 0.0,
    }
    return Training.model_validate(common | more)


MLP = Experiment(
    "mlp",
    "MNIST: three hidden layers of 1024 units, batch norm, squared hinge loss",
    "mnist",
    "binaryconnect_mlp",
    {
        "full": Setup(_arms(0.001, 3), training(250, 100, 0.001, 3e-6), val=1 / 6),
        "quick": Setup(
            _arms(0.002, 2),
            training(20, 200, 0.003, 3e-5, validate_every=3),
            images=30_000,
            seeds=2,
            options={"hidden": (512, 512, 512)},
            shortened="512 hidden units instead of 1024, 30,000 training images, 20 epochs in batches of 200, the rate from 0.003",
        ),
    },
    claims=(
        Claim("within", "binary weights stay within 0.4 points of float32", "deterministic", 0.4),
        Claim("within", "weights drawn at random stay within 0.4 points of float32", "stochastic", 0.4),
        Claim("within", "weights drawn at random are no worse than float32: they regularise", "stochastic", 0.0),
    ),
    differs=(
        "The paper trains this network by SGD; ours by Adam, as its published code does.",
        "The float32 arm has neither scaled rates nor clipping, and a rate of its own.",
        "Stochastic weights are tested with the float32 copies, the paper's third way (section 2.6).",
    ),
)

PAPER = Paper(
    "binaryconnect2015",
    "M. Courbariaux, Y. Bengio, J.-P. David 2015, BinaryConnect: training deep neural networks with binary weights, arXiv 1511.00363",
    "Weights of -1 and 1 in the forward and backward pass; updates add up in clipped float32 copies.",
    (MLP,),
)

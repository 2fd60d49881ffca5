"""BinaryNet 2016: weights and activations of one bit."""

from __future__ import annotations

from convsmith.training.reproductions import binary
from convsmith.training.reproductions.binaryconnect2015 import training
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup

PLAN = binary.net("*.linear", "*.activation")
SCALED = {"rate_scale": "glorot"}


def _arms(twin_rate: float) -> tuple[Arm, ...]:
    return (
        Arm("float32", None, None, "", training={"learning_rate": twin_rate}),
        Arm("binary", PLAN, 0.96, "table 1, Theano", training=SCALED),
    )


def _shifted() -> tuple[Arm, ...]:
    return (
        Arm("float32", None, None, "", training={"optimizer": "adamax"}),
        Arm("binary, shifts", PLAN, 1.40, "table 1, Torch7", training=SCALED),
    )


MLP = Experiment(
    "mlp",
    "MNIST: three hidden layers of 4096 units, sign activations, batch norm, squared hinge loss (the Theano row)",
    "mnist",
    "binarynet_mlp",
    {
        "full": Setup(_arms(0.003), training(1000, 100, 0.003, 3e-7), val=1 / 6, options={"dropout_in": 0.2, "dropout": 0.5}),
        "quick": Setup(
            _arms(0.002),
            training(14, 200, 0.005, 3e-5, validate_every=2),
            images=40_000,
            seeds=2,
            options={"hidden": (1024, 1024, 1024)},
            shortened="1024 hidden units instead of 4096, no dropout, 40,000 training images, 14 epochs in batches of 200, the rate from "
            "0.005",
        ),
    },
    claims=(Claim("within", "one-bit weights and activations stay within 0.4 points of float32", "binary", 0.4),),
    differs=("The float32 arm is the same network with a hard tanh where the binary one has signs, and with plain rates.",),
    mean=0.5,
    std=0.5,
)

SHIFT = Experiment(
    "shift",
    "MNIST: 2048 units, batch norm and AdaMax by shifts alone (the Torch7 row)",
    "mnist",
    "binarynet_mlp",
    {
        "full": Setup(
            _shifted(),
            training(500, 100, 2.0**-6, 2.0**-16, optimizer="shift_adamax", betas=(1 - 2.0**-3, 1 - 2.0**-10)),
            val=1 / 6,
            options={"hidden": (2048, 2048, 2048), "norm": "shift"},
        ),
        "quick": Setup(
            _shifted(),
            training(10, 200, 2.0**-7, 2.0**-13, optimizer="shift_adamax", betas=(1 - 2.0**-3, 1 - 2.0**-10), validate_every=5),
            images=20_000,
            seeds=1,
            options={"hidden": (512, 512, 512), "norm": "shift"},
            shortened="512 hidden units instead of 2048, 20,000 training images, 10 epochs in batches of 200, one seed",
        ),
    },
    claims=(
        Claim(
            "within", "with shifts in place of multiplications the error stays within 1 point of the float32 network", "binary, shifts", 1.0
        ),
    ),
    differs=("The float32 arm has the same norm and exact AdaMax; the rate begins at a power of two of our choice.",),
    mean=0.5,
    std=0.5,
)

PAPER = Paper(
    "binarynet2016",
    "M. Courbariaux, I. Hubara, D. Soudry, R. El-Yaniv, Y. Bengio 2016, Binarized neural networks, arXiv 1602.02830",
    "Weights and activations of -1 and 1; the slope of the sign is that of a hard tanh. The paper's two rows have recipes of their own.",
    (MLP, SHIFT),
)

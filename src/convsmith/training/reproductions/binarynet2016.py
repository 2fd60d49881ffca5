"""BinaryNet 2016: weights and activations of one bit."""

from __future__ import annotations

from convsmith.precision.plan import Plan
from convsmith.training.reproductions import binary
from convsmith.training.reproductions.binaryconnect2015 import training
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup

PLAN = binary.net("*.linear", "*.activation")
CONVNET = binary.net(("*.conv", "*.linear"), "*.sign")
SCALED = {"rate_scale": "glorot"}
TWIN = "The float32 arm is the same network with a hard tanh where the binary one has signs, and with plain rates."


def _arms(twin_rate: float, published: float = 0.96, plan: Plan = PLAN) -> tuple[Arm, ...]:
    return (
        Arm("float32", None, None, "", training={"learning_rate": twin_rate}),
        Arm("binary", plan, published, "table 1, Theano", training=SCALED),
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
            training(16, 200, 0.005, 3e-5, validate_every=4, augment={"shift": 0.08}),
            seeds=1,
            options={"hidden": (1024, 1024, 1024)},
            shortened="1024 hidden units instead of 4096, no dropout, 16 epochs in batches of 200, the rate from 0.005; images "
            "moved by up to two pixels, which the paper does not do",
        ),
    },
    claims=(
        Claim("at_most", "one-bit weights and activations err on at most 1.6 % of the images", "binary", 1.6),
        Claim("within", "one-bit weights and activations stay within 0.4 points of float32", "binary", 0.4),
    ),
    differs=(TWIN,),
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

CIFAR = Experiment(
    "cifar",
    "CIFAR-10: six convolutions of 128 to 512 filters, two hidden layers of 1024 units, signs, squared hinge loss (the Theano row)",
    "cifar10",
    "binarynet_cifar",
    {
        "full": Setup(_arms(0.001, 11.40, CONVNET), training(500, 50, 0.001, 3e-7), val=0.1),
        "quick": Setup(
            _arms(0.002, 11.40, CONVNET),
            training(6, 100, 0.003, 3e-5, validate_every=2),
            images=12_000,
            seeds=1,
            options={"widths": (32, 64, 128), "hidden": (256, 256)},
            shortened="a quarter of the filters and of the units, 12,000 training images, 6 epochs in batches of 100, one seed",
        ),
    },
    claims=(Claim("within", "one-bit weights and activations stay within 5 points of float32", "binary", 5.0),),
    differs=(TWIN,),
    mean=0.5,
    std=0.5,
)

SVHN = Experiment(
    "svhn",
    "SVHN: the same network with half the filters (the Theano row)",
    "svhn",
    "binarynet_cifar",
    {
        "full": Setup(_arms(0.001, 2.80, CONVNET), training(200, 50, 0.001, 1e-6), val=0.1, options={"widths": (64, 128, 256)}),
        "quick": Setup(
            _arms(0.002, 2.80, CONVNET),
            training(4, 100, 0.003, 3e-5, validate_every=2),
            images=20_000,
            seeds=1,
            options={"widths": (32, 64, 128), "hidden": (256, 256)},
            shortened="a half of those filters, 256 units, 20,000 training images, 4 epochs in batches of 100, one seed",
        ),
    },
    claims=(Claim("within", "one-bit weights and activations stay within 2 points of float32", "binary", 2.0),),
    differs=(TWIN, "The easier images of extra_32x32.mat are trained on where that file is there; the paper's set has them."),
    mean=0.5,
    std=0.5,
)

PAPER = Paper(
    "binarynet2016",
    "M. Courbariaux, I. Hubara, D. Soudry, R. El-Yaniv, Y. Bengio 2016, Binarized neural networks, arXiv 1602.02830",
    "Weights and activations of -1 and 1; the slope of the sign is that of a hard tanh. The paper's two rows have recipes of their own.",
    (MLP, SHIFT, CIFAR, SVHN),
)

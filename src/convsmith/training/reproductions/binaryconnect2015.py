"""BinaryConnect 2015: weights of one bit in the products, float32 copies for the updates."""

from __future__ import annotations

from convsmith.training.config import Schedule, Training
from convsmith.training.reproductions import binary
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup

SCALED = {"rate_scale": "glorot"}


CONVNET = ("*.conv", "*.linear")


def _arms(twin_rate: float, seeds: int, layers: tuple[str, ...] = ("*.linear",), published: tuple[float, ...] = ()) -> tuple[Arm, ...]:
    none, sign, drawn = published or (1.30, 1.29, 1.18)
    return (
        Arm("float32", None, none, "table 2, no regularizer", training={"learning_rate": twin_rate}),
        Arm("deterministic", binary.connect(*layers), sign, "table 2", training=SCALED),
        Arm("stochastic", binary.connect(*layers, stochastic=True), drawn, "table 2", training=SCALED, seeds=seeds),
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

PIXELS = (
    "Images are scaled to -1 to 1; the paper normalises their contrast and whitens them (GCN and ZCA).",
    "The float32 arm has neither scaled rates nor clipping, and a rate of its own.",
    "Stochastic weights are tested with the float32 copies, the paper's third way (section 2.6).",
)

REGULARISE = (
    Claim("within", "binary weights are no worse than float32: they regularise", "deterministic", 0.0),
    Claim("within", "weights drawn at random are no worse than float32", "stochastic", 0.0),
)

CIFAR = Experiment(
    "cifar",
    "CIFAR-10: six convolutions of 128 to 512 filters, two hidden layers of 1024 units, ReLU, squared hinge loss",
    "cifar10",
    "binaryconnect_cifar",
    {
        "full": Setup(_arms(0.001, 3, CONVNET, (10.64, 9.90, 8.27)), training(500, 50, 0.003, 2e-6), val=0.1),
        "quick": Setup(
            _arms(0.002, 1, CONVNET, (10.64, 9.90, 8.27)),
            training(6, 100, 0.003, 3e-5, validate_every=2),
            images=12_000,
            seeds=1,
            options={"widths": (32, 64, 128), "hidden": (256, 256)},
            shortened="a quarter of the filters and of the units, 12,000 training images, 6 epochs in batches of 100, one seed",
        ),
    },
    claims=REGULARISE,
    differs=PIXELS,
    mean=0.5,
    std=0.5,
)

SVHN = Experiment(
    "svhn",
    "SVHN: the same network with half the filters",
    "svhn",
    "binaryconnect_cifar",
    {
        "full": Setup(
            _arms(0.001, 3, CONVNET, (2.44, 2.30, 2.15)), training(200, 50, 0.003, 2e-6), val=0.1, options={"widths": (64, 128, 256)}
        ),
        "quick": Setup(
            _arms(0.002, 1, CONVNET, (2.44, 2.30, 2.15)),
            training(4, 100, 0.003, 3e-5, validate_every=2),
            images=20_000,
            seeds=1,
            options={"widths": (32, 64, 128), "hidden": (256, 256)},
            shortened="a half of those filters, 256 units, 20,000 training images, 4 epochs in batches of 100, one seed",
        ),
    },
    claims=REGULARISE,
    differs=(*PIXELS, "The easier images of extra_32x32.mat are trained on where that file is there; the paper's set has them."),
    mean=0.5,
    std=0.5,
)

PAPER = Paper(
    "binaryconnect2015",
    "M. Courbariaux, Y. Bengio, J.-P. David 2015, BinaryConnect: training deep neural networks with binary weights, arXiv 1511.00363",
    "Weights of -1 and 1 in the forward and backward pass; updates add up in clipped float32 copies.",
    (MLP, CIFAR, SVHN),
)

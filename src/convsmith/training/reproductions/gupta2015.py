"""Gupta et al. 2015: 16-bit fixed point trains when it rounds stochastically, and does not when it rounds to nearest."""

from __future__ import annotations

from dataclasses import replace

from convsmith.formats import Format, Rounding
from convsmith.precision.plan import Phase, Plan, Start
from convsmith.training.config import Schedule, Training
from convsmith.training.reproductions.paper import Arm, Claim, Experiment, Paper, Setup
from convsmith.training.reproductions.plans import BATCH, stored, stored_rules

NEAREST: Rounding = "nearest_even"
STOCHASTIC: Rounding = "stochastic"


def fixed(fraction: int, passed: int | None = None, *, nearest: bool = False) -> Plan:
    """Return the plan of 16-bit words with ``fraction`` bits behind the point for parameters and ``passed`` for what layers pass on."""
    parameters = Format.fixed(16 - fraction, fraction)
    other = parameters if passed is None else Format.fixed(16 - passed, passed)
    way = NEAREST if nearest else STOCHASTIC
    return stored(f"{'nearest' if nearest else 'stochastic'} FL {fraction}", parameters, other, way, "clipped")


def low_to_high(epoch: float) -> Plan:
    """Return <4,12> until an epoch and <4,16> for the parameters from then on."""
    low, high = (stored_rules(Format.fixed(4, fraction), Format.fixed(4, 12), STOCHASTIC, "clipped") for fraction in (12, 16))
    return Plan(low, f"FL 12, then 16 from epoch {epoch:g}", master=False, phases=(Phase(Start("epoch", epoch), high),))


def through_saturation(plan: Plan) -> Plan:
    """Return the plan with errors that also go back through layer outputs that saturated."""
    return replace(plan, rules=tuple(replace(rule, pseudo_gradient="identity") for rule in plan.rules))


def _mlp(seeds: int) -> tuple[Arm, ...]:
    """Layer outputs and parameters share one format."""
    arms = [Arm("float32", None, 1.4, "figure 1")]
    for fraction in (14, 10, 8):
        arms.append(Arm(f"stochastic FL {fraction}", fixed(fraction), 1.4, "figure 1", seeds=None if fraction == 14 else seeds))
    for fraction in (14, 10, 8):
        arms.append(Arm(f"nearest FL {fraction}", fixed(fraction, nearest=True), None, "figure 1", seeds=seeds))
    return tuple(arms)


def _lenet(seeds: int) -> tuple[Arm, ...]:
    """Layer outputs are <6,10>."""
    return (
        Arm("float32", None, 0.77, "text"),
        Arm("stochastic FL 14", fixed(14, 10), 0.83, "text"),
        Arm("stochastic FL 12", fixed(12, 10), 0.90, "text", seeds=seeds),
        Arm("nearest FL 14", fixed(14, 10, nearest=True), None, "does not converge", seeds=seeds),
        Arm("nearest FL 14, unclipped", through_saturation(fixed(14, 10, nearest=True)), None, "does not converge", seeds=seeds),
    )


def _cifar(epoch: float, seeds: int) -> tuple[Arm, ...]:
    return (
        Arm("float32", None, 24.6, "text"),
        Arm("stochastic FL 14", fixed(14, 12), 25.4, "text", seeds=seeds),
        Arm("stochastic FL 12", fixed(12, 12), 28.8, "text"),
        Arm("FL 12, then 16", low_to_high(epoch), None, "approaches float32"),
        Arm("nearest FL 14", fixed(14, 12, nearest=True), None, "collapses", seeds=1),
    )


def _training(epochs: float, **more: object) -> Training:
    common = {"epochs": epochs, "batch": BATCH, "optimizer": "sgd", "nesterov": False, "label_smoothing": 0.0}
    return Training.model_validate(common | more)


MOMENTUM = {"momentum": 0.9, "weight_decay": 5e-4}
PLAIN = {"momentum": 0.0, "weight_decay": 0.0}

MEAN_LOSS = "The loss is the mean of a batch of 100, so errors are small numbers; the paper does not say how it scales them."
FEWER_IMAGES = "5,000 of the 60,000 training images choose the weights that are tested; the paper trains on all."

MLP = Experiment(
    "mlp",
    "784-1000-1000-10 with ReLU on MNIST",
    "mnist",
    "gupta_mlp",
    {
        "full": Setup(_mlp(3), _training(100, learning_rate=0.1, schedule=Schedule(kind="step", step=1, gamma=0.95), **PLAIN)),
        "quick": Setup(
            _mlp(1),
            _training(12, learning_rate=0.3, schedule=Schedule(kind="linear", floor=0.05), validate_every=3, **PLAIN),
            images=20_000,
            seeds=2,
            shortened="20,000 training images, 12 epochs with the rate falling in a straight line",
        ),
    },
    claims=(
        Claim("within", "stochastic rounding stays within 0.3 points of float32 at FL 14", "stochastic FL 14", 0.3),
        Claim("within", "stochastic rounding still learns at FL 10, within 0.5 points", "stochastic FL 10", 0.5),
        Claim("within", "stochastic rounding still learns at FL 8, within 1 point", "stochastic FL 8", 1.0),
        Claim("above", "nearest rounding is worse than float32 at FL 10, by a point or more", "nearest FL 10", 1.0),
        Claim("above", "nearest rounding fails at FL 8, by 10 points or more", "nearest FL 8", 10.0),
        Claim("within", "nearest rounding is harmless at FL 14, within 0.3 points", "nearest FL 14", 0.3),
    ),
    differs=(
        MEAN_LOSS,
        "A layer output that saturates sends no error back; without that, <2,14> for layer outputs did not train here.",
        "The paper gives no learning rate for this network; ours begins at 0.1 (quick: 0.3).",
        "Weights begin with a standard deviation of 0.01, as we read N(0, 0.01).",
        FEWER_IMAGES,
    ),
)

LENET = Experiment(
    "lenet",
    "LeNet on MNIST: two 5x5 convolutions with 8 and 16 maps, 128 hidden units",
    "mnist",
    "gupta_lenet",
    {
        "full": Setup(_lenet(3), _training(60, learning_rate=0.1, schedule=Schedule(kind="step", step=1, gamma=0.95), **MOMENTUM)),
        "quick": Setup(
            _lenet(1),
            _training(8, learning_rate=0.05, schedule=Schedule(kind="linear", floor=0.02), validate_every=2, **MOMENTUM),
            seeds=2,
            shortened="8 epochs from a rate of 0.05 that falls in a straight line",
        ),
    },
    claims=(
        Claim("at_most", "float32 errs on at most 0.9 %", "float32", 0.9),
        Claim("within", "stochastic rounding stays within 0.3 points of float32 at FL 14", "stochastic FL 14", 0.3),
        Claim("within", "stochastic rounding stays within 0.5 points of float32 at FL 12", "stochastic FL 12", 0.5),
        Claim("above", "nearest rounding does not converge at FL 14: 10 points or more above float32", "nearest FL 14", 10.0),
        Claim("above", "the same where errors go back through saturated outputs", "nearest FL 14, unclipped", 10.0),
    ),
    differs=(
        "The convolutions have no padding; the paper does not say.",
        MEAN_LOSS,
        "A layer output that saturates sends no error back, but in the last arm, where nearest rounding fails as the paper says; the paper "
        "does not say which it does. In a trial of one epoch with errors through saturated outputs stochastic rounding ended at 2.1 %, "
        "nearest rounding at 90.2 %, at FL 14 and at FL 12.",
        "Momentum is stored in the format of the weights, as everything else that must be kept; the paper does not speak of it.",
        FEWER_IMAGES,
    ),
)

CIFAR = Experiment(
    "cifar",
    "Three 5x5 convolutions of 64 maps on CIFAR-10, and the schedule from low to high precision",
    "cifar10",
    "gupta_cifar",
    {
        "full": Setup(
            _cifar(100, 3),
            _training(120, learning_rate=0.01, schedule=Schedule(kind="multistep", gamma=0.5, milestones=(50, 75, 100)), **MOMENTUM),
        ),
        "quick": Setup(
            _cifar(8, 1),
            _training(
                12,
                batch=50,
                learning_rate=0.02,
                schedule=Schedule(kind="multistep", gamma=0.5, milestones=(6, 8, 10)),
                validate_every=2,
                **MOMENTUM,
            ),
            images=5_000,
            seeds=2,
            options={"maps": (24, 24, 24)},
            shortened="24 maps a layer instead of 64, 5,000 training images, 12 epochs in batches of 50; high precision from epoch 8 on",
        ),
    },
    claims=(
        Claim("within", "stochastic rounding at FL 14 stays within 2 points of float32", "stochastic FL 14", 2.0),
        Claim("above", "FL 12 throughout is worse than float32, by 1 point or more", "stochastic FL 12", 1.0),
        Claim("within", "beginning with FL 12 and ending with FL 16 comes within 1.5 points of float32", "FL 12, then 16", 1.5),
        Claim("above", "nearest rounding collapses at FL 14: 10 points or more above float32", "nearest FL 14", 10.0),
    ),
    differs=(
        "The images may be a copy compressed with loss (an archive of JPEG files): then errors compare with each other only.",
        "A layer output that saturates sends no error back; momentum is stored in the format of the weights.",
        "No local response normalisation and no dropout.",
        "Quick: few epochs on few images end far from the paper's errors, while updates are still large, of which nearest rounding loses "
        "fewer; FL 16 has the last 4 epochs, where the paper's schedule has 20; most arms have one seed.",
    ),
)

PAPER = Paper(
    "gupta2015",
    "S. Gupta, A. Agrawal, K. Gopalakrishnan, P. Narayanan 2015, Deep learning with limited numerical precision, arXiv 1502.02551",
    "Parameters, updates, layer outputs and errors in 16-bit fixed point <IL, FL>; sums of products wide, rounded once.",
    (MLP, LENET, CIFAR),
)

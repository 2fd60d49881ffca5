"""How a network is trained: one schema for Python, the command line, the YAML file and the web form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from convsmith.training.augment_presets import joined
from convsmith.training.transfer import Transfer

ScheduleKind = Literal["constant", "step", "multistep", "exponential", "inverse", "polynomial", "sigmoid", "cosine", "one_cycle", "linear"]
OptimizerKind = Literal["sgd", "adam", "adamw", "adamax", "shift_adamax", "muon"]
LossKind = Literal["cross_entropy", "binary_cross_entropy", "squared_hinge"]
Precision = Literal["auto", "float32", "bfloat16"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Schedule(BaseModel):
    """How the learning rate moves. Times are in epochs of the configured run; a run shortened to fit a time budget compresses them all."""

    model_config = _FROZEN

    kind: ScheduleKind = Field(default="one_cycle", description="Shape of the learning rate over the run")
    warmup: float = Field(default=0.0, ge=0, description="Epochs of linear rise to the learning rate before the schedule begins")
    gamma: float = Field(default=0.1, gt=0, description="Factor of step, multistep and exponential; rate of inverse and sigmoid")
    power: float = Field(default=1.0, gt=0, description="Exponent of inverse and polynomial")
    step: float = Field(default=10.0, gt=0, description="Epochs between two drops of step")
    milestones: tuple[float, ...] = Field(default=(), description="Epochs at which multistep drops")
    center: float = Field(default=0.0, ge=0, description="Epoch at which sigmoid has fallen to one half; 0 means the middle of the run")
    rise: float = Field(default=0.25, ge=0, lt=1, description="Part of the run in which one_cycle rises")
    start: float = Field(default=0.1, gt=0, le=1, description="First learning rate of one_cycle, as a part of the highest")
    floor: float = Field(
        default=0.0, ge=0, le=1, description="Last learning rate of cosine, one_cycle and linear, as a part of the highest"
    )
    cycles: int = Field(default=1, ge=1, description="Times the shape is gone through, each in an equal part of the run after the warm-up")
    settle: float = Field(default=1.0, gt=0, le=1, description="Part of the run after which linear stays at its floor")

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        if self.kind == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones, the epochs at which the learning rate drops, for example [10, 15]")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} must rise")
        return self


class Augment(BaseModel):
    """Random changes of each training image, drawn anew every epoch from (seed, epoch, image), so that any run repeats them.

    The name of a preset, or several joined by ``+``, stands for its changes, alone or as ``like`` beside others: every other change is then
    off, but mirroring, which the images decide.
    """

    model_config = _FROZEN

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, given: Any) -> Any:
        fields = {"like": given} if isinstance(given, str) else given
        if not isinstance(fields, Mapping) or "like" not in fields:
            return given
        off = {name: field.default for name, field in cls.model_fields.items() if name not in ("flip", "flip_vertical")}
        return off | joined(str(fields["like"])) | {name: value for name, value in fields.items() if name != "like"}

    flip: bool | Literal["alternate"] = Field(
        default=False,
        description="Mirror left and right with probability one half, or 'alternate': every image in every second epoch; wrong for "
        "digits and characters",
    )
    flip_vertical: bool = Field(default=False, description="Mirror top and bottom with probability one half")
    crop: Literal["none", "resnet", "inception"] = Field(
        default="none",
        description="Read a random part: 'resnet' a square whose side is 224/480 to 224/256 of the image's, 'inception' one of random area "
        "and aspect",
    )
    crop_area: float = Field(default=0.08, gt=0, le=1, description="Least part of the area that crop 'inception' reads")
    shift: float = Field(
        default=0.0, ge=0, le=0.5, description="Largest move along each axis, as a part of the side; edge pixels are repeated"
    )
    rotate: float = Field(default=0.0, ge=0, le=180, description="Largest rotation in degrees, either way")
    scale: float = Field(default=0.0, ge=0, lt=1, description="Largest enlargement or reduction, as a part: 0.1 is 0.9 to 1.1 times")
    stretch: float = Field(default=0.0, ge=0, lt=1, description="Largest change of the aspect, as a part: 0.1 is 0.9 to 1.1 times as wide")
    shear: float = Field(default=0.0, ge=0, lt=1, description="Largest horizontal shear: pixels of slant per pixel of height")
    perspective: float = Field(default=0.0, ge=0, lt=0.5, description="Largest move of each corner inwards, as a part of the side")
    lens: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Largest lens distortion, barrel or pincushion: move of a corner, as a part of its radius",
    )
    elastic: float = Field(default=0.0, ge=0, le=0.25, description="Standard deviation of a smooth displacement, as a part of the side")
    light: float = Field(default=0.0, ge=0, lt=1, description="Largest change of brightness and of contrast, as a part")
    saturation: float = Field(default=0.0, ge=0, le=1, description="Largest change of saturation, as a part; 1 reaches grey")
    hue: float = Field(default=0.0, ge=0, le=180, description="Largest turn of the hue in degrees, either way")
    lighting: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Standard deviation of PCA lighting along the training images' colour axes; AlexNet has 0.1",
    )
    blur: float = Field(default=0.0, ge=0, le=10, description="Largest standard deviation of a Gaussian blur, in pixels")
    noise: float = Field(default=0.0, ge=0, le=1, description="Largest standard deviation of added noise, as a part of full scale")
    jpeg: int = Field(default=0, ge=0, le=100, description="Lowest quality of a JPEG compression, drawn up to 100; 0 is off")
    erase: float = Field(
        default=0.0, ge=0, le=0.75, description="Side of a square that is replaced by the mean colour, as a part of the image's side"
    )
    policy: Literal["none", "rand", "trivial"] = Field(
        default="none", description="RandAugment (policy_operations at policy_strength) or TrivialAugment (one, at a random strength)"
    )
    policy_operations: int = Field(default=2, ge=1, le=4, description="Operations in a row of RandAugment")
    policy_strength: int = Field(default=9, ge=0, le=30, description="Strength of RandAugment, 0 to 30")
    mixup: float = Field(default=0.0, ge=0, le=2, description="Alpha of mixup: pairs of images and labels are blended; 0 is off")
    cutmix: float = Field(default=0.0, ge=0, le=2, description="Alpha of cutmix: a box is pasted from another image; 0 is off")


class Training(BaseModel):
    """Everything about a training run but the network and the data."""

    model_config = _FROZEN

    epochs: float = Field(default=20.0, gt=0, description="Passes over the training images; less where time_s does not allow as many")
    time_s: float | None = Field(
        default=None, gt=0, description="Seconds the call may take; the schedule is planned from measured step times to complete in them"
    )
    batch: int | Literal["full"] = Field(
        default=128, description="Images per update: 1 is online training, 'full' uses all images for every update"
    )
    accumulate: int = Field(
        default=1, ge=1, description="Parts in which a batch is computed to save memory; the update is that of the whole batch"
    )
    optimizer: OptimizerKind = Field(
        default="sgd",
        description="Update rule; shift_adamax is AdaMax with powers of two for factors, muon makes the updates of filters orthogonal",
    )
    learning_rate: float = Field(default=0.05, gt=0, description="Highest learning rate of the schedule")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd and muon")
    momentum_start: float | None = Field(default=None, ge=0, lt=1, description="Momentum of the first update; by default as momentum")
    momentum_rise: float = Field(default=0.5, gt=0, le=1, description="Part of the run in which momentum_start rises to momentum")
    nesterov: bool = Field(default=True, description="Nesterov's momentum for sgd; needs momentum above 0")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Decay of the first and second moment of adam, adamw and adamax")
    rate_scale: Literal["none", "glorot"] = Field(
        default="none",
        description="Factor of each layer's learning rate: 'glorot' is sqrt((inputs + outputs) / 1.5) for weights, its square under sgd",
    )
    max_norm: float = Field(default=0.0, ge=0, description="Largest norm of the weights into one unit after each update; 0 is off")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay; norm parameters and biases are spared")
    schedule: Schedule = Field(default_factory=lambda: Schedule(), description="Learning rate over the run")
    loss: LossKind = Field(default="cross_entropy", description="Loss; the last two are one against all")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Part of the target spread evenly over all classes (cross_entropy)")
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = Field(
        default="none", description="Weight of each class in the loss; 'balanced' makes every class count the same"
    )
    distil: float = Field(default=0.0, ge=0, le=1, description="Share of the loss that compares with the scores of a teacher; 0 is off")
    temperature: float = Field(default=4.0, gt=0, description="Divides the scores of both before a teacher is compared with")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="Decay per update of the running mean of the weights that is validated and kept; 0 is off"
    )
    snapshots: int = Field(
        default=0, ge=0, le=99, description="Copies of the weights kept over the last quarter of the run, for averages and ensembles"
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of dropout in every dropout layer, else before the last layer; by default the network's",
    )
    drop_connect: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the weights of linear layers left out in each update; 0 is off"
    )
    stochastic_depth: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of images for which the last residual branch is left out, less for earlier ones; 0 is off",
    )
    clip: float = Field(default=0.0, ge=0, description="Largest global norm of the gradient; 0 is off")
    precision: Precision = Field(default="auto", description="Arithmetic of the network; auto times both and takes bfloat16 when faster")
    channels_last: bool | Literal["auto"] = Field(default="auto", description="Memory layout NHWC; auto times both and takes the faster")
    transfer: Transfer = Field(default_factory=lambda: Transfer(), description="How given weights are trained further")
    augment: Augment = Field(default_factory=lambda: Augment(), description="Random changes of the training images")
    patience: int = Field(default=0, ge=0, description="Stop after this many validations without a new best; 0 is off")
    validate_every: int = Field(default=0, ge=0, description="Epochs between validations; 0 spends at most a tenth of the time on them")
    checkpoint_s: float = Field(default=20.0, ge=0, description="Seconds between checkpoints; 0 writes one after every update")
    seed: int = Field(default=0, ge=0, description="Seed of the data order, augmentation and dropout")
    deterministic: bool = Field(default=False, description="Repeat bit for bit: nothing is chosen by timing, deterministic algorithms only")
    threads: int = Field(default=0, ge=0, description="Processor threads; 0 times all and one and takes the faster")
    workers: int = Field(default=0, ge=0, description="Processes that decode images")
    resident: bool | Literal["auto"] = Field(default="auto", description="Keep all decoded images in memory; auto does when they fit")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to compute; auto takes a GPU when there is one")
    plan: dict[str, Any] | None = Field(default=None, description="Number formats to train under: a plan as `Plan.to_dict` gives it")
    count_every: int = Field(
        default=0, ge=0, description="Updates between counts of overflow, underflow and stagnation under a plan; 0 counts none"
    )
    kernels: Literal["torch", "native"] = Field(
        default="torch",
        description="Whose convolutions compute the network; native measures each layer and takes torch's where that is quicker",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if isinstance(self.batch, int) and self.batch < 1:
            raise ValueError(f"batch is {self.batch}; allowed are 1 (online), more (mini-batch) and 'full'")
        if isinstance(self.batch, int) and self.accumulate > self.batch:
            raise ValueError(f"accumulate={self.accumulate} parts of a batch of {self.batch} leaves some empty; at most {self.batch}")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=true needs momentum above 0; set momentum=0.9 or nesterov=false")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"label_smoothing is for cross_entropy, the loss is {self.loss}; set label_smoothing=0")
        if self.optimizer == "muon" and (self.plan is not None or self.transfer.strategy != "none" or self.rate_scale != "none"):
            raise ValueError("muon is for networks trained from scratch, without a plan or rate_scale; take sgd or adamw")
        if self.rate_scale != "none" and self.transfer.strategy != "none":
            raise ValueError("rate_scale is for networks trained from scratch; set transfer.strategy=none or rate_scale=none")
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; each must be at least 0 and below 1")
        if self.kernels == "native" and (self.precision == "bfloat16" or self.device == "cuda"):
            raise ValueError("kernels=native computes in float32 on the processor; set precision=float32, or kernels=torch")
        if self.plan is not None:
            self._check_plan()
        if self.schedule.warmup >= self.epochs:
            raise ValueError(f"warmup of {self.schedule.warmup} epochs leaves nothing of {self.epochs} epochs")
        return self

    def _check_plan(self) -> None:
        from convsmith.precision.plan import Plan
        from convsmith.precision.rule import LEARNED

        if self.transfer.blend:
            raise ValueError("transfer.blend is not for training under a plan, whose weights are codes; set transfer.blend=0")
        plan = Plan.from_dict(self.plan or {})
        rules = [rule for phase in range(len(plan.phases) + 1) for rule in plan.rules_of(phase)]
        if self.precision == "bfloat16":
            raise ValueError("a plan is emulated in float32; leave precision at auto or float32, and give bf16 in the plan")
        if self.drop_connect:
            raise ValueError("drop_connect is not emulated under a plan; set drop_connect=0, or use dropout")
        if any(rule.pseudo_gradient in LEARNED for rule in rules):
            raise ValueError("learned steps (lsq, ttq) are not kept by a run; train them in Python, with precision.emulate")

"""One rule of a plan: which tensors of which layers speak which number format, and how they get into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from convsmith import formats
from convsmith.errors import UsageError, near

Role = Literal["weight", "bias", "activation", "error", "weight_gradient", "update", "momentum", "accumulator", "norm_statistics"]
Moment = Literal["operation", "layer", "batch"]
ScaleRule = Literal["none", "tensor", "channel", "group", "block", "dynamic"]
RangeRule = Literal["max", "percentile", "mse"]
PseudoGradient = Literal["identity", "clipped", "hard_tanh", "approx_sign", "lsq", "ttq"]
Order = Literal["sequential", "pairwise", "blocked", "kahan"]

ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "role": get_args(Role),
    "moment": get_args(Moment),
    "scale": get_args(ScaleRule),
    "range": get_args(RangeRule),
    "rounding": formats.ROUNDINGS,
    "overflow": formats.OVERFLOWS,
    "pseudo_gradient": get_args(PseudoGradient),
    "order": get_args(Order),
}

MOMENTS: Final[dict[Role, tuple[Moment, ...]]] = {
    "weight": ("layer", "batch"),
    "bias": ("layer", "batch"),
    "activation": ("layer", "operation"),
    "error": ("layer", "operation"),
    "weight_gradient": ("layer", "batch"),
    "update": ("layer", "operation"),
    "momentum": ("layer", "operation"),
    "accumulator": ("operation",),
    "norm_statistics": ("layer",),
}
"""When the tensors of a role can be rounded."""


@dataclass(frozen=True)
class Rule:
    """The format of one role of tensor in every layer whose name matches a glob.

    ``format`` None leaves the tensor in float32, which exempts layers from an earlier rule.

    ``scale``: one step size for the ``tensor``, for each output ``channel``, for each ``group`` of ``block`` consecutive numbers, a
    power of two for each ``block`` of them (block floating point), or ``dynamic``: fixed point whose integer bits follow the rate of
    overflow, looked at every ``interval`` batches and allowed up to ``max_overflow`` (Courbariaux et al. 2014, arXiv 1412.7024).
    ``range`` says from what a step is taken: the largest magnitude, a percentile of it, or, of integers, the range whose rounding has
    the least squared error.
    ``pseudo_gradient``: what stands for the derivative of rounding; for weights, biases and activations. ``lsq`` and ``ttq`` learn the
    step of an integer and the two magnitudes of ternary weights as well.
    ``clip``: the largest magnitude that an update leaves in the stored weight, 0 for no limit; binary weights are kept in -1 to 1, where
    a change of sign is near. ``training_only``: in evaluation the number itself is read, as with weights drawn at random in training.
    ``order``, ``block`` and ``product`` are for accumulators: the order of the additions, how many terms of a ``blocked`` one are
    added in float32, and the format of each product: "same" as the sums, another, or None for a fused multiply-add.
    """

    layer: str
    role: Role
    format: formats.Format | None
    moment: Moment = "layer"
    rounding: formats.Rounding = "nearest_even"
    overflow: formats.Overflow = "saturate"
    random_bits: int = formats.MAX_RANDOM_BITS
    scale: ScaleRule = "none"
    range: RangeRule = "max"
    percentile: float = 99.99
    block: int = 0
    interval: int = 100
    max_overflow: float = 1e-4
    pseudo_gradient: PseudoGradient = "identity"
    clip: float = 0.0
    training_only: bool = False
    order: Order = "sequential"
    product: formats.Format | Literal["same"] | None = "same"

    def __post_init__(self) -> None:
        for field, allowed in ALLOWED.items():
            given = getattr(self, field)
            if given not in allowed:
                raise UsageError(f"{field} is {given!r}; allowed are {', '.join(allowed)}.{near(str(given), allowed)}")
        if not self.layer:
            raise UsageError("a rule needs a layer name or glob; '*' means every layer")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile:g}; it must be above 50 and at most 100")
        if self.moment not in MOMENTS[self.role]:
            allowed_here = " or ".join(repr(moment) for moment in MOMENTS[self.role])
            raise UsageError(f"role {self.role!r} is rounded at moment {allowed_here}, not {self.moment!r}")
        if not 1 <= self.random_bits <= formats.MAX_RANDOM_BITS:
            raise UsageError(f"random_bits is {self.random_bits}; allowed are 1 to {formats.MAX_RANDOM_BITS}")
        _check_scale(self)
        _check_gradient(self)
        _check_reading(self)
        _check_accumulator(self)

    @property
    def format_name(self) -> str:
        return "float32" if self.format is None else str(self.format)

    @property
    def is_float32(self) -> bool:
        """Tell whether the rule leaves a float32 tensor as it is, bit for bit. The order of an accumulator matters in float32 too."""
        return self.format is None or (self.format == FLOAT32 and self.role != "accumulator" and self.scale == "none")

    def to_dict(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, formats.Format) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rule:
        """Read a rule; ``UsageError`` names an unknown or missing field."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"a rule has no field {key!r}; it has {', '.join(known)}.{near(key, known)}")
        for key in ("layer", "role", "format"):
            if key not in values:
                raise UsageError(f"a rule needs the field {key!r} (format may be null, for float32); got {', '.join(values) or 'none'}")
        read = dict(values)
        for key in ("format", "product"):
            if isinstance(read.get(key), str) and (key, read[key]) != ("product", "same"):
                read[key] = formats.parse(read[key])
        return cls(**read)

    def details(self) -> str:
        """Return what differs from the usual, in words: scale, pseudo-gradient, random bits, order of accumulation."""
        parts = []
        if self.scale != "none":
            size = f" of {self.block}" if self.scale in ("group", "block") else ""
            parts.append(f"{self.scale}{size} scale" + (f", {self.percentile:g} percentile" if self.range == "percentile" else ""))
        if self.pseudo_gradient != "identity":
            parts.append(f"{self.pseudo_gradient} gradient")
        if self.clip:
            parts.append(f"clipped to {self.clip:g}")
        if self.training_only:
            parts.append("in training only")
        if self.rounding == "stochastic" and self.random_bits != formats.MAX_RANDOM_BITS:
            parts.append(f"{self.random_bits} random bits")
        if self.role == "accumulator":
            parts.append(self.order + (f" by {self.block}" if self.block else "") + _product_name(self.product))
        return "; ".join(parts)


def _product_name(product: formats.Format | str | None) -> str:
    return "" if product == "same" else ", fused products" if product is None else f", products {product}"


FLOAT32: Final = formats.Format.float(8, 23)

TERNARY: Final = formats.Format.integer(2, symmetric=True)
"""-1, 0 and 1."""

LEARNED: Final = ("lsq", "ttq")
"""The pseudo-gradients that have numbers of their own to learn."""


def _check_scale(rule: Rule) -> None:
    if rule.scale == "none":
        return
    if rule.role in ("accumulator", "norm_statistics") or (rule.role == "update" and rule.scale != "dynamic"):
        raise UsageError(f"scale {rule.scale!r} is not for role {rule.role!r}; its numbers have the range of the format")
    if rule.format is None:
        raise UsageError(f"scale {rule.scale!r} needs a format; a rule without one leaves the tensor in float32")
    if rule.overflow == "wrap" and rule.scale != "dynamic":
        raise UsageError(f"scaled numbers saturate; overflow 'wrap' needs scale 'none' or 'dynamic', not {rule.scale!r}")
    if rule.scale == "channel" and rule.role not in ("weight", "weight_gradient"):
        raise UsageError("scale 'channel' is for weights and their gradients; other tensors have 'tensor', 'group' or 'block'")
    if rule.scale in ("group", "block") and rule.block < 1:
        raise UsageError(f"scale {rule.scale!r} needs block, the number of consecutive values that share a step, for example block=32")
    if rule.range == "mse" and (rule.format.kind not in ("integer", "binary") or rule.scale not in ("tensor", "channel")):
        raise UsageError(
            f"range 'mse' is for integers and signs with scale 'tensor' or 'channel', not for {rule.format} with {rule.scale!r}"
        )
    if rule.scale == "dynamic" and rule.format.kind != "fixed":
        raise UsageError(f"scale 'dynamic' moves the point of fixed-point formats; {rule.format} is none: take for example fixed<2,14>")
    if rule.scale == "dynamic" and (rule.interval < 1 or not 0 <= rule.max_overflow < 1):
        raise UsageError(f"interval is {rule.interval} and max_overflow {rule.max_overflow:g}; at least 1, and 0 or more but below 1")


def _check_gradient(rule: Rule) -> None:
    if rule.pseudo_gradient == "identity":
        return
    if rule.role not in ("weight", "bias", "activation"):
        raise UsageError(f"a pseudo-gradient is for weights, biases and activations, not for role {rule.role!r}")
    if rule.pseudo_gradient == "ttq" and (rule.role != "weight" or rule.format != TERNARY or rule.scale != "tensor"):
        raise UsageError(f"pseudo_gradient 'ttq' learns two magnitudes of ternary weights: it needs {TERNARY}, with scale='tensor'")
    if rule.pseudo_gradient == "lsq" and (rule.format is None or rule.format.kind != "integer" or rule.scale != "tensor"):
        raise UsageError("pseudo_gradient 'lsq' learns the step of an integer format: it needs one, with scale='tensor'")


def _check_reading(rule: Rule) -> None:
    if rule.clip and rule.role not in ("weight", "bias"):
        raise UsageError(f"clip is for stored weights and biases, not for role {rule.role!r}")
    if rule.clip < 0:
        raise UsageError(f"clip is {rule.clip:g}; it must be above 0, or 0 for no limit")
    if rule.training_only and rule.role not in ("weight", "bias", "activation"):
        raise UsageError(f"training_only is for weights, biases and activations, not for role {rule.role!r}")


def _check_accumulator(rule: Rule) -> None:
    if rule.role != "accumulator":
        if rule.order != "sequential" or rule.product != "same":
            raise UsageError(f"order and product are for role 'accumulator', not for {rule.role!r}")
        if rule.block and rule.scale not in ("group", "block"):
            raise UsageError("block is for scale 'group' or 'block', and for blocked accumulators")
    elif (rule.order == "blocked") != (rule.block > 0):
        raise UsageError(
            f"order 'blocked' needs block, the number of additions in a block, and only it; got order {rule.order!r}, block {rule.block}"
        )

"""How a pretrained network is trained further: which part learns, when, and how fast."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

StrategyKind = Literal["none", "linear", "head_first", "fine_tune", "full", "lp_ft", "surgical", "l2_sp", "layer_decay", "bit"]
Third = Literal["top", "middle", "bottom"]
THIRDS: tuple[Third, Third, Third] = ("top", "middle", "bottom")

# factors of the learning rate for the top, middle and bottom third below the head; 0 is frozen
FACTORS: dict[StrategyKind, tuple[float, float, float]] = {
    "none": (1.0, 1.0, 1.0),
    "linear": (0.0, 0.0, 0.0),
    "head_first": (0.1, 0.01, 0.01),
    "fine_tune": (0.1, 0.01, 0.0),
    "full": (0.1, 0.1, 0.1),
    "lp_ft": (1.0, 1.0, 1.0),
    "surgical": (0.0, 0.0, 0.0),  # but for the third that `block` names
    "l2_sp": (0.1, 0.1, 0.1),
    "layer_decay": (1.0, 1.0, 1.0),
    "bit": (1.0, 1.0, 1.0),
}


class Transfer(BaseModel):
    """Settings of training from given weights; with ``none`` every weight learns alike, as from scratch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyKind = Field(default="none", description="Which part learns and how fast: docs/transfer.md")
    head_part: float = Field(default=0.3, ge=0, lt=1, description="Part of a head_first run in which the last layer learns alone")
    block: Third = Field(default="middle", description="Third below the last layer that learns, beside it, under strategy surgical")
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor of the learning rate from each block to the one below; replaces the thirds when below 1",
    )
    freeze_norm: bool = Field(default=False, description="Batch norm keeps the statistics of the given weights everywhere")
    blend: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the first weights, the head's too, in those that answer (WiSE-FT); 0 is off"
    )
    anchor: float = Field(
        default=0.0, ge=0, description="Pull towards the given weights instead of weight decay, all but the last layer (L2-SP); 0 is off"
    )

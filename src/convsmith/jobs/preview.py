"""Show training images as the network will see them: a contact sheet of what augmentation makes of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import sources
from convsmith.jobs.configuration import given
from convsmith.jobs.settings import Images, ResizeMode
from convsmith.jobs.text import printable
from convsmith.training.config import Augment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.data.dataset import Split
    from convsmith.data.preprocess import Preprocess

LEAST_SIDE_PX = 96
GAP_PX = 4


class Config(Images):
    """Which images, how often, and what may change."""

    size: int | None = Field(None, ge=1, description="Side of the network's square input in pixels; by default from the images")
    resize: ResizeMode | None = Field(
        None, description="How images of another shape fill it: squashed, cut (crop), whole with black beside them (fill), or half way"
    )
    rows: int = Field(8, ge=1, le=100, description="Images, evenly spread over the training part")
    epochs: int = Field(8, ge=1, le=50, description="Epochs shown beside each unchanged image")
    seed: int = Field(0, ge=0, description="Seed of the augmentation")
    sheet: Path = Field(Path("preview.png"), description="PNG file to write; one that exists is not replaced")
    augment: Augment = Field(default_factory=lambda: Augment(), description="Random changes; those chosen for the images unless set")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Write the contact sheet and return what is on it."""
    from PIL import Image

    from convsmith import data, training

    if config.sheet.exists():
        raise UsageError(f"{str(config.sheet)!r} exists already; name another file with --sheet, or remove it")
    dataset = sources.open_images(config, record)
    preprocess, _ = data.choose_preprocess(dataset, config.size, config.resize, workers=config.workers)
    augment, reasons = config.augment, ["as set"]
    if "augment" not in given(config):
        chosen, spoken = training.choose(dataset, preprocess)
        augment, reasons = chosen.augment, [reason for reason in spoken if reason.startswith(("images are", "photos", "small images"))]
    sheet = draw(dataset.train, preprocess, augment, rows=config.rows, epochs=config.epochs, seed=config.seed)
    with runs.files.writing(config.sheet):
        Image.fromarray(sheet).save(config.sheet, "PNG")
    return {
        "sheet": str(config.sheet),
        "name": dataset.name,
        "rows": min(config.rows, len(dataset.train)),
        "epochs": config.epochs,
        "augment": augment.model_dump(mode="json", exclude_defaults=True),
        "reasons": reasons,
    }


def draw(split: Split, preprocess: Preprocess, augment: Augment, *, rows: int, epochs: int, seed: int) -> NDArray[np.uint8]:
    """Return the sheet, uint8 RGB: one line an image, unchanged first, then as each epoch sees it, small ones enlarged."""
    import numpy as np
    import torch

    from convsmith.data import batches, spread
    from convsmith.training.augmentation import augmented, colour_axes, mixed, stored_preprocess, to_input

    chosen = spread(len(split), rows)
    plain = np.concatenate([x for x, _, _ in batches(split, preprocess, 64, order=chosen)])
    stored = np.concatenate([x for x, _, _ in batches(split, stored_preprocess(preprocess, augment), 64, order=chosen)])
    axes = colour_axes(stored) if augment.lighting and preprocess.channels == 3 else None
    columns = [to_input(torch.from_numpy(plain), preprocess)]
    for epoch in range(epochs):
        x = augmented(torch.from_numpy(stored), chosen, augment, preprocess, seed=seed, epoch=epoch, axes=axes)
        columns.append(mixed(x, chosen, augment, seed=seed, epoch=epoch)[0])
    return _sheet(np.stack([_visible(column.numpy(), preprocess) for column in columns], axis=1))


def _visible(x_nchw: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return uint8 RGB of normalised images, enlarged by whole factors to at least 96 pixels a side."""
    import numpy as np

    x_nhwc = x_nchw.transpose(0, 2, 3, 1) * np.array(preprocess.std, np.float32) + np.array(preprocess.mean, np.float32)
    pixels = np.repeat(np.rint(x_nhwc * 255).clip(0, 255).astype(np.uint8), 3 // preprocess.channels, axis=3)
    factor = max(1, -(-LEAST_SIDE_PX // min(preprocess.height, preprocess.width)))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def _sheet(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one picture of tiles ``(rows, columns, height, width, 3)`` on white, the unchanged column set apart."""
    import numpy as np

    rows, columns, height, width, _ = tiles.shape
    tall, wide = height + GAP_PX, width + GAP_PX
    sheet = np.full((rows * tall + GAP_PX, columns * wide + 4 * GAP_PX, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP_PX + row * tall, GAP_PX + column * wide + (3 * GAP_PX if column else 0)
            sheet[top : top + height, left : left + width] = tiles[row, column]
    return sheet


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    changes = ", ".join(f"{key} {value}" for key, value in result["augment"].items()) or "none"
    return "\n".join(
        [
            f"{result['rows']} training images of {printable(result['name'])}: unchanged, then as {result['epochs']} epochs see them.",
            f"Changes: {changes}",
            *(f"  {reason}" for reason in result["reasons"]),
            f"Contact sheet: {result['sheet']}",
        ]
    )

"""From a batch of stored pixels to what the network reads: random changes and normalisation, as operations on the whole batch."""

from convsmith.training.augmentation.batch import augmented, cutter, stored_preprocess, to_input
from convsmith.training.augmentation.colour import colour_axes
from convsmith.training.augmentation.mixing import Mixture, mixed

__all__ = ["Mixture", "augmented", "colour_axes", "cutter", "mixed", "stored_preprocess", "to_input"]

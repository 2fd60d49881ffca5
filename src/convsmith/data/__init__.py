"""Images in: every source becomes a Dataset, every split the network's uint8 pixels. Loads no torch."""

from convsmith.data.dataset import Dataset, Problem, Split, SplitName, source_name, spread
from convsmith.data.decode import MAX_PIXELS, read_image
from convsmith.data.findings import Finding, exclusion_list, read_list
from convsmith.data.health import Health, check
from convsmith.data.identity import fingerprint
from convsmith.data.images import EncodedSplit, ResidentSplit
from convsmith.data.input_size import choose_preprocess
from convsmith.data.loader import batches, pixels
from convsmith.data.opening import open
from convsmith.data.pipeline import Waits, stream
from convsmith.data.preprocess import Preprocess, affine, crop_box, normalise, prepare, to_channels
from convsmith.data.preprocess import resize as resize
from convsmith.data.public import PUBLIC, download, load_public

__all__ = [
    "MAX_PIXELS",
    "PUBLIC",
    "Dataset",
    "EncodedSplit",
    "Finding",
    "Health",
    "Preprocess",
    "Problem",
    "ResidentSplit",
    "Split",
    "SplitName",
    "Waits",
    "affine",
    "batches",
    "check",
    "choose_preprocess",
    "crop_box",
    "download",
    "exclusion_list",
    "fingerprint",
    "load_public",
    "normalise",
    "open",
    "pixels",
    "prepare",
    "read_image",
    "read_list",
    "resize",
    "source_name",
    "spread",
    "stream",
    "to_channels",
]

"""Answers averaged over views of an image, over draws of dropout and over networks: each reading made once, then weighed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convsmith.data.preprocess import Preprocess, framed, to_channels
from convsmith.kernels.resampling import resample
from convsmith.training import noise
from convsmith.training.augmentation import to_input
from convsmith.training.chance import key
from convsmith.training.views import PLAIN, View, box_of

Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Reading:
    """One pass of a network over a view of every image. ``draw``: 0 is the plain network, others are draws of its dropout."""

    network: str
    view: View = PLAIN[0]
    draw: int = 0


@dataclass(frozen=True)
class Method:
    """A way of answering: the mean of the probabilities of its readings; the same reading twice counts twice."""

    name: str
    told: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Member:
    """A network in evaluation mode, and how it reads an image."""

    module: nn.Module
    preprocess: Preprocess


@dataclass(frozen=True)
class Answers:
    """What readings gave: probabilities float32 ``(n, classes)`` and seconds of each, images decoded before not counted."""

    probabilities: Mapping[Reading, NDArray[np.float32]]
    seconds: Mapping[Reading, float]

    def of(self, method: Method) -> NDArray[np.float64]:
        """Return the mean probabilities of a method, float64 ``(n, classes)``."""
        return np.asarray(np.mean([self.probabilities[reading].astype(np.float64) for reading in method.readings], axis=0))

    def logits(self, method: Method) -> NDArray[np.float64]:
        """Return the logarithms of the mean probabilities: a softmax gives these back."""
        return np.asarray(np.log(np.maximum(self.of(method), 1e-30)))

    def cost_s(self, method: Method) -> float:
        """Return the seconds that a method took for all images; a reading that it names twice is made once."""
        return sum(self.seconds[reading] for reading in set(method.readings))


def read(
    methods: Iterable[Method],
    members: Mapping[str, Member],
    images: Iterable[NDArray[np.uint8]],
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Answers:
    """Make every reading of the methods once on decoded images ``(h, w, c)`` of any size.

    A draw of dropout is a function of its number and of the place of its batch. ``progress`` is told how many images are done.
    """
    wanted = list(dict.fromkeys(reading for method in methods for reading in method.readings))
    found: dict[Reading, list[NDArray[np.float32]]] = {reading: [] for reading in wanted}
    seconds = dict.fromkeys(wanted, 0.0)
    source, done = iter(images), 0
    while part := list(islice(source, batch)):
        for reading in wanted:
            began = time.perf_counter()
            found[reading].append(_answers(members[reading.network], part, reading, done))
            seconds[reading] += time.perf_counter() - began
        done += len(part)
        if progress:
            progress(done)
    return Answers({reading: np.concatenate(parts) for reading, parts in found.items() if parts}, seconds)


def views_of(pictures: Pictures, view: View, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return a view of every image at the network's size, uint8 NHWC: the plain view is `data.resize` bit for bit."""
    held = [framed(to_channels(picture, preprocess.channels), box_of(view, preprocess, *picture.shape[:2])) for picture in pictures]
    pictures, boxes = [np.ascontiguousarray(picture) for picture, _ in held], np.array([box for _, box in held], np.int32).reshape(-1, 4)
    out = np.empty((len(pictures), preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    resample(pictures, boxes, np.full(len(pictures), view.mirrored), out)
    return out


def _answers(member: Member, pictures: Pictures, reading: Reading, place: int) -> NDArray[np.float32]:
    x_nhwc = torch.from_numpy(views_of(pictures, reading.view, member.preprocess))
    device = next((p.device for p in member.module.parameters()), torch.device("cpu"))
    before = torch.get_rng_state()
    try:
        with torch.inference_mode(), noise.noisy(member.module) if reading.draw else nullcontext():
            torch.manual_seed(int(key(5, reading.draw, place) >> 1))
            logits = member.module(to_input(x_nhwc.to(device), member.preprocess))
            return torch.softmax(logits.float(), 1).cpu().numpy()
    finally:
        torch.set_rng_state(before)

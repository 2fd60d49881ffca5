"""Ways to compute a convolution and its gradients: torch's own, and each native algorithm; the quickest is found by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from convsmith.kernels import ALGORITHMS, convolution_shape, gradients, instruction_set, native, tuner

MOST_ERROR: Final = 2e-5
"""Accuracy that a native algorithm must have to be taken: up to F(4x4,3x3)."""

LIMIT_S: Final = 1.0
"""Seconds that choosing the way of one pass of one layer may take."""

TORCH: Final = "torch"


@dataclass(frozen=True)
class Sizes:
    """What a convolution is beside its arrays: strides, zeros around, dilations, groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def attributes(self) -> dict[str, Any]:
        return {"strides": self.stride, "pads": self.padding * 2, "dilations": self.dilation, "group": self.groups}


@dataclass
class Choices:
    """What was found quickest for each pass, layer and number of threads; ``fixed``: take the native way by rule, without measuring."""

    fixed: bool = False
    chosen: dict[tuple[Any, ...], str] = field(default_factory=dict)
    seconds: dict[tuple[Any, ...], dict[str, float]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def begin(self, fixed: bool) -> None:
        """Forget everything, for another network."""
        self.fixed = fixed
        self.chosen.clear()
        self.seconds.clear()

    def run(self, key: tuple[Any, ...], ways: dict[str, Callable[[], Tensor]]) -> Tensor:
        """Return the result of the way chosen for ``key``, the first time the quickest of ``ways``, of which torch's is the first."""
        key = (*key, torch.get_num_threads())
        with self.lock:
            if key not in self.chosen:
                self._choose(key, ways)
        return ways[self.chosen[key]]()

    def _choose(self, key: tuple[Any, ...], ways: dict[str, Callable[[], Tensor]]) -> None:
        names = list(ways)
        if self.fixed or len(names) == 1:
            self.chosen[key] = names[-1]
            return

        def measure(name: str) -> float:
            start = time.perf_counter()
            ways[name]()
            return time.perf_counter() - start

        for name in names:
            measure(name)
        decision = tuner.choose(names, measure, direct=TORCH, limit_s=LIMIT_S)
        self.chosen[key] = decision.chosen
        self.seconds[key] = {name: found.median for name, found in decision.intervals.items()}

    def table(self) -> list[dict[str, Any]]:
        """Return what was chosen, with the milliseconds of each way."""
        rows = []
        for key, way in self.chosen.items():
            times = {name: round(1e3 * value, 4) for name, value in self.seconds.get(key, {}).items()}
            rows.append({"pass": key[0], "image": list(key[1]), "weights": list(key[2]), "way": way, "ms": times})
        return rows


CHOICES = Choices()


def names_for(x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any]) -> list[str]:
    """Return the native algorithms that take a convolution, the safest last but Winograd where it usually wins."""
    shape = convolution_shape(x_shape, w_shape, attributes)
    able = [name for name in native.names(instruction_set()) if native.supports(name, shape) and ALGORITHMS[name].accuracy <= MOST_ERROR]
    usual = [name for name in able if name in ("gemm", "depthwise", "winograd_4x4_3x3")]
    return [name for name in able if name not in usual] + usual


def gradient_names(x_shape: tuple[int, ...], w_shape: tuple[int, ...], sizes: Sizes) -> list[str]:
    """Return the native ways to the gradient of the weights that are accurate enough, the usual one last."""
    return gradients.names_for(convolution_shape(x_shape, w_shape, sizes.attributes()), MOST_ERROR)


def nhwc(x: Tensor) -> np.ndarray[Any, Any]:
    """Return the image as a dense NHWC array, which it is already when torch keeps channels last."""
    array: np.ndarray[Any, Any] = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return array


def convolve(name: str, x: Tensor, w: Tensor, attributes: dict[str, Any]) -> Tensor:
    """Return the native convolution of float32 NCHW by KCRS, channels last."""
    shape = convolution_shape(tuple(x.shape), tuple(w.shape), attributes)
    prepared = native.prepare(name, w.detach().contiguous().numpy(), shape)
    y = native.run_nhwc(name, nhwc(x), prepared, shape, threads=torch.get_num_threads())
    return torch.from_numpy(y).permute(0, 3, 1, 2)


def weight_gradient(name: str, dy: Tensor, x: Tensor, w_shape: tuple[int, ...], sizes: Sizes) -> Tensor:
    """Return the gradient of the weights, natively."""
    shape = convolution_shape(tuple(x.shape), w_shape, sizes.attributes())
    return torch.from_numpy(gradients.weight_gradient(name, nhwc(x), nhwc(dy), shape, threads=torch.get_num_threads()))


def adjoint_weights(w: Tensor, groups: int) -> Tensor:
    """Return the weights that lead from outputs to inputs: channels changed over within each group, taps turned round."""
    k, c, r, s = w.shape
    turned = w.flip(2, 3).reshape(groups, k // groups, c, r, s).transpose(1, 2)
    return turned.reshape(groups * c, k // groups, r, s)


@dataclass(frozen=True)
class Phase:
    """Along one axis, which taps reach every ``stride``-th input from ``first`` on, and the part of the outputs with zeros around it."""

    taps: slice
    count: int
    begin: int
    end: int
    before: int
    after: int


def phase(first: int, size: int, outputs: int, kernel: int, stride: int, padding: int) -> Phase:
    """Return the phase of inputs ``first``, ``first + stride``, ... of ``size``.

    Input ``first + stride m`` is ``sum over t of w[r0 + stride t] dy[m + q - t]`` with ``r0 + stride q = first + padding``: a convolution
    with stride 1 by the turned taps, shifted by ``q``.
    """
    r0, q = (first + padding) % stride, (first + padding) // stride
    taps, count = len(range(r0, kernel, stride)), len(range(first, size, stride))
    start, stop = q - taps + 1, q + count
    return Phase(slice(r0, kernel, stride), taps, max(0, start), min(outputs, stop), max(0, -start), max(0, stop - outputs))


def input_gradient(
    dy: Tensor, x_shape: tuple[int, ...], w: Tensor, sizes: Sizes, convolution: Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
) -> Tensor:
    """Return the gradient of the image from convolutions with stride 1: one for each phase of the strides, put together.

    References: Dumoulin and Visin 2016, arXiv:1603.07285, chapter 4.
    """
    (sh, sw), (ph, pw), groups = sizes.stride, sizes.padding, sizes.groups
    rows, columns = x_shape[2:]
    found = zeros_last(x_shape, dy) if max(sh, sw) > 1 else None
    for i in range(min(sh, rows)):
        for j in range(min(sw, columns)):
            a = phase(i, rows, dy.shape[2], w.shape[2], sh, ph)
            b = phase(j, columns, dy.shape[3], w.shape[3], sw, pw)
            if not a.count or not b.count or a.begin >= a.end or b.begin >= b.end:
                continue
            part = convolution(
                dy[:, :, a.begin : a.end, b.begin : b.end],
                adjoint_weights(w[:, :, a.taps, b.taps], groups),
                {"pads": (a.before, b.before, a.after, b.after), "group": groups},
            )
            if found is None:
                return part
            found[:, :, i::sh, j::sw] = part
    return found if found is not None else zeros_last(x_shape, dy)


def zeros_last(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last).zero_()

"""Rounding of torch tensors: on a processor by the native core in the tensor's own memory, on CUDA by Triton kernels."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats.constants import constants
from convsmith.formats.format import Format
from convsmith.formats.modes import MAX_RANDOM_BITS, Overflow, Rounding, check_modes
from convsmith.formats.native import choose, native_module
from convsmith.formats.random_bits import check_key
from convsmith.precision.memory import (
    TensorScale,
    are_apart,
    as_columns,
    as_float32,
    as_tensor_scale,
    check_out,
    check_tensor,
    is_dense,
    is_plain,
)
from convsmith.precision.triton_launch import has_kernel, round_flat

_count_write: Final = torch.autograd.graph.increment_version


class Counts(NamedTuple):
    """What happened to the elements of a tensor; with a scale, to the quotients by it."""

    #: Finite, and beyond the range once rounded as if the exponent had no upper end: saturated, made infinite or NaN, or wrapped.
    overflows: int
    #: Not zero, and rounded to zero without overflow.
    underflows: int
    infinities: int
    nans: int


class _Call(NamedTuple):
    """The arguments of one call that say how to round, not what."""

    fmt: Format
    rounding: Rounding
    overflow: Overflow
    seed: int
    stream: int
    random_bits: int
    threads: int | None
    isa: str | None
    counted: bool


def round_tensor(
    x: Tensor,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    seed: int = 0,
    stream: int = 0,
    scale: ArrayLike | Tensor | None = None,
    axis: int | None = None,
    out: Tensor | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    threads: int | None = None,
    isa: str | None = None,
) -> Tensor:
    """Round a tensor to a format and return float32, or float64 where the format needs it: the bits of `formats.round_array`.

    The result has the shape, device and memory layout of ``x``; ``out=x`` works in place. Random bits belong to the index in C order,
    whatever the layout. The result has no gradient: an ``x`` that requires one counts as detached (`Rounded` passes gradients), and an
    ``out`` that requires one is refused unless gradients are off. Contiguous float32 is neither copied nor converted; narrower types
    take one conversion; float64, wide integers, and formats that need float64 arithmetic or are blocks are rounded by `round_array`, from
    their values. Blocks lie along ``axis``, else the last. ``threads`` and ``isa`` are for processors and change no bit.

    Shapes: ``x`` any; ``scale`` () or (x.shape[axis],); the result like ``x``.
    Raises: UsageError for tensors, modes, scales and seeds that cannot be; UnsupportedError for devices without a kernel.
    """
    if scale is None and (out is None or out is x) and (threads is None or threads > 0) and is_plain(x):
        rounder = _rounder(fmt, rounding, overflow, random_bits)
        if rounder is not None:
            target = torch.empty_like(x) if out is None else _written(x)
            try:
                rounder.round(x.data_ptr(), target.data_ptr(), x.numel(), seed, stream, threads or 0, isa)
            except (KeyError, TypeError):
                _check_call(seed, stream, threads, isa)
                raise
            return target
    call = _Call(fmt, rounding, overflow, seed, stream, random_bits, threads, isa, False)
    return _round_any(x, call, scale, axis, out)[0]


def round_tensors(
    tensors: Sequence[Tensor],
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    streams: Sequence[int] | None = None,
    seed: int = 0,
    in_place: bool = False,
    random_bits: int = MAX_RANDOM_BITS,
    threads: int | None = None,
    isa: str | None = None,
) -> list[Tensor]:
    """Do what `round_tensor` does for many tensors, one call of the native core for all that it can round where they lie.

    ``streams`` has one stream of random bits for each tensor, by default 0, 1, 2, ... ``in_place`` writes the results over the tensors.

    Raises: what `round_tensor` raises; UsageError for other than one stream for each tensor.
    """
    numbers = range(len(tensors)) if streams is None else streams
    if len(numbers) != len(tensors):
        raise UsageError(f"each tensor needs a stream of its own; got {len(tensors)} tensors and {len(numbers)} streams.")
    rounder = _rounder(fmt, rounding, overflow, random_bits)
    if rounder is None or (threads is not None and threads < 1) or not all(map(is_plain, tensors)):
        how: dict[str, Any] = {"seed": seed, "random_bits": random_bits, "threads": threads, "isa": isa}
        pairs = zip(tensors, numbers, strict=True)
        return [round_tensor(x, fmt, rounding, overflow, stream=n, out=x if in_place else None, **how) for x, n in pairs]
    targets = [_written(x) if in_place else torch.empty_like(x) for x in tensors]
    places = [x.data_ptr() for x in tensors], [y.data_ptr() for y in targets], [x.numel() for x in tensors]
    try:
        rounder.round_many(*places, seed, list(numbers), threads or 0, isa)
    except (KeyError, TypeError):
        for number in numbers:
            _check_call(seed, number, threads, isa)
        raise
    return targets


def round_counted(
    x: Tensor,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    seed: int = 0,
    stream: int = 0,
    scale: ArrayLike | Tensor | None = None,
    axis: int | None = None,
    out: Tensor | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[Tensor, Counts]:
    """Do what `round_tensor` does and count, in the same pass and exactly, what overflowed, underflowed or was no finite number.

    A tensor on CUDA goes by way of the processor.

    Raises: what `round_tensor` raises; UnsupportedError for types that float32 does not hold, and without the native core.
    """
    call = _Call(fmt, rounding, overflow, seed, stream, random_bits, threads, isa, True)
    if isinstance(x, Tensor) and x.is_cuda:
        factors = scale.cpu() if isinstance(scale, Tensor) else scale
        target, counts = _round_any(x.cpu(), call, factors, axis, None)
        target = target.to(x.device) if out is None else out.copy_(target)
    else:
        target, counts = _round_any(x, call, scale, axis, out)
    assert counts is not None
    return target, counts


@functools.lru_cache(maxsize=256)
def _rounder(fmt: Format, rounding: Rounding, overflow: Overflow, random_bits: int) -> Any:
    """Return the native rounder, None where the native module is not built or has none for such formats."""
    check_modes(fmt, rounding, overflow, random_bits)
    if fmt.element is not None:
        return None
    native, spec = native_module(), constants(fmt, rounding, overflow, random_bits)
    return native.Rounder(tuple(spec)) if native is not None and spec.ordinary else None


# the native module is taken down before this cache, and says so of every rounder that is still there
atexit.register(_rounder.cache_clear)


def _check_call(seed: int, stream: int, threads: int | None, isa: str | None) -> None:
    """Refuse what the native call would not take."""
    check_key(seed, stream)
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1; got {threads}.")
    choose(isa)


def _written(out: Tensor) -> Tensor:
    """Return a tensor that is about to be overwritten, after telling autograd, which cannot see what the native core does."""
    check_out(out, out)
    _count_write(out)
    return out


def _round_any(
    x: Tensor, call: _Call, scale: ArrayLike | Tensor | None, axis: int | None, out: Tensor | None
) -> tuple[Tensor, Counts | None]:
    check_tensor(x)
    carrier = torch.float64 if call.fmt.carrier == "float64" else torch.float32
    if out is not None:
        check_out(out, x, carrier)
    rounder = _rounder(call.fmt, call.rounding, call.overflow, call.random_bits)
    _check_call(call.seed, call.stream, call.threads, call.isa)
    factors = as_tensor_scale(scale, axis, x)
    values = x.detach().resolve_neg()
    source = as_float32(values)
    if source is not None and x.is_cpu and rounder is not None:
        return _round_in_memory(functools.partial(_run_native, rounder), values, source, call, factors, out)
    if call.counted:
        raise UnsupportedError(
            f"The native core counts for tensors on cpu of float32 or narrower, and for formats without float64 arithmetic or blocks; "
            f"got {x.dtype} on {x.device} and {call.fmt}."
        )
    if source is not None and x.is_cuda and _has_kernel(call):
        return _round_in_memory(_run_triton, values, source, call, factors, out)
    array = _round_by_numpy(values if source is None else source, call, factors, axis)
    if out is None:
        out = torch.empty_like(values, dtype=carrier)
    return out.copy_(array), None


def _round_in_memory(
    run: Callable[[Tensor, Tensor, _Call, TensorScale | None], Counts | None],
    values: Tensor,
    source: Tensor,
    call: _Call,
    scale: TensorScale | None,
    out: Tensor | None,
) -> tuple[Tensor, Counts | None]:
    """Round in the order of memory where that changes no bit or the native core counts as needed, else a contiguous copy."""
    by_index = call.rounding == "stochastic"
    columns = by_index and run is not _run_triton and scale is None and not call.counted and as_columns(source) is not None
    if not columns and not (source.is_contiguous() if by_index else is_dense(source)):
        source = source.contiguous() if by_index else torch.empty_like(source).copy_(source)
    owned = source.data_ptr() != values.data_ptr()
    target = source if owned else torch.empty_like(source)
    if out is not None and out.stride() == source.stride() and is_dense(out):
        if out.data_ptr() == source.data_ptr() or are_apart(out, source):
            target = _written(out)
    counts = run(source, target, call, scale)
    if out is not None:
        return (out if target is out else out.copy_(target)), counts
    like = values if is_dense(values) else torch.empty_like(values)
    return (target if target.stride() == like.stride() else torch.empty_like(like, dtype=torch.float32).copy_(target)), counts


def _run_native(rounder: Any, source: Tensor, target: Tensor, call: _Call, scale: TensorScale | None) -> Counts | None:
    if call.rounding == "stochastic" and not source.is_contiguous():
        columns = as_columns(source)
        assert columns is not None
        rounder.round_columns(source.data_ptr(), target.data_ptr(), *columns, call.seed, call.stream, call.threads or 0, call.isa)
        return None
    arguments = [source.data_ptr(), target.data_ptr(), source.numel(), call.seed, call.stream, call.threads or 0, call.isa]
    if scale is not None:
        arguments += [scale.factors.data_ptr(), scale.factors.numel(), scale.inner(source)]
    if call.counted:
        return Counts(*rounder.count(*arguments))
    rounder.round(*arguments)
    return None


def _has_kernel(call: _Call) -> bool:
    """Tell whether the Triton kernel knows the format."""
    return call.fmt.element is None and has_kernel(constants(call.fmt, call.rounding, call.overflow, call.random_bits))


def _run_triton(source: Tensor, target: Tensor, call: _Call, scale: TensorScale | None) -> None:
    spec = constants(call.fmt, call.rounding, call.overflow, call.random_bits)
    round_flat(source, target, spec, call.seed, call.stream, scale)


def _round_by_numpy(values: Tensor, call: _Call, scale: TensorScale | None, axis: int | None) -> Tensor:
    factors = None if scale is None else scale.factors.numpy(force=True)
    rounded = formats.round_array(
        values.numpy(force=True),
        call.fmt,
        call.rounding,
        call.overflow,
        seed=call.seed,
        stream=call.stream,
        scale=factors,
        axis=axis,
        random_bits=call.random_bits,
        threads=call.threads,
        isa=call.isa,
    )
    return torch.from_numpy(rounded)

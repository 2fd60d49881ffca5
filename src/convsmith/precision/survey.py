"""A dry run: which calls a network makes, what they read, and what they are called in a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convsmith.errors import UsageError
from convsmith.models.modes import in_evaluation
from convsmith.precision.interception import Call, Interceptor, tensors_in
from convsmith.precision.operators import FUSED, MOVES
from convsmith.precision.site import Site

Loss = Callable[[Any], Tensor]

LOSS = "loss"
"""The path of calls that compute the loss."""


def survey(network: nn.Module, example: tuple[Tensor, ...], loss: Loss | None) -> dict[Call, Site]:
    """Run the network once in training and once in evaluation mode and return its call sites, named, in order.

    Nothing of the network changes: buffers are put back, modes and torch's generator too.
    """
    buffers = {name: value.clone() for name, value in network.state_dict().items()}
    sites: dict[Call, Site] = {}
    settled: set[Call] = set()
    try:
        with in_evaluation(network), kept_generators(network), torch.no_grad():
            for training in (True, False):
                _Walk(network.train(training), sites, settled).run(example, loss)
    finally:
        network.load_state_dict(buffers)
    _name(sites, network)
    return sites


def kept_generators(network: nn.Module) -> Any:
    """Return a block after which torch's generators, also those of the network's GPUs, are as they were."""
    return torch.random.fork_rng(devices=sorted({p.device.index for p in network.parameters() if p.is_cuda}))


class _Walk:
    def __init__(self, network: nn.Module, sites: dict[Call, Site], settled: set[Call]) -> None:
        self.network, self.sites, self.settled = network, sites, settled
        self.names = {id(parameter): name for name, parameter in network.named_parameters()}
        self.held: list[Any] = []
        self.producers: dict[int, Site] = {}
        self.readers: dict[int, list[Site | None]] = {}

    def run(self, example: tuple[Tensor, ...], loss: Loss | None) -> None:
        interceptor = Interceptor(self.network, self.call)
        with interceptor.listening():
            result = self.network(*example)
        for _, tensor in tensors_in([(0, result)]):
            self.readers.setdefault(id(tensor), []).append(None)
        if loss is not None:
            with interceptor.listening(LOSS):
                loss(result)
        for identity in list(self.producers):
            self._close(identity)

    def _close(self, identity: int) -> None:
        """Settle what is known of a tensor: merged is what one ReLU alone reads, in every mode."""
        site, readers = self.producers.pop(identity), self.readers.pop(identity, [])
        reader = readers[0] if len(readers) == 1 else None
        alone = reader is not None and reader.operator in FUSED and reader.path != LOSS and site.computes
        site.merged = alone and (site.merged or site.call not in self.settled)
        self.settled.add(site.call)

    def call(self, call: Call, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        site = self.sites.setdefault(call, Site(*call))
        for place, tensor in tensors_in([*enumerate(args), *kwargs.items()]):
            self.readers.setdefault(id(tensor), []).append(site)
            if id(tensor) in self.names:
                site.parameters[place] = self.names[id(tensor)]
        result = function(*args, **kwargs)
        self.held.append((args, kwargs, result))
        for _, tensor in tensors_in([(0, result)]):
            if tensor.is_floating_point():
                site.speaks = True
                if id(tensor) in self.producers:
                    self._close(id(tensor))
                site.computes |= site.operator not in MOVES
                self.producers[id(tensor)] = site
        return result


def _name(sites: dict[Call, Site], network: nn.Module) -> None:
    """Name each site by its module, and by module and operator where the module is not one of torch's and makes several calls."""
    for call in [call for call, site in sites.items() if not site.speaks]:
        del sites[call]
    calls = Counter(path for path, _, _ in sites)
    taken = {"input"}
    for site in sites.values():
        module = network.get_submodule(site.path) if site.path and site.path != LOSS else None
        site.layer = unique(plain_name(site, module, calls[site.path]), taken)


def plain_name(site: Site, module: nn.Module | None, calls: int) -> str:
    """Return the name of a site before it is made unique; as ``interop.pytorch.read`` names the node of a graph."""
    if not site.path:
        return site.operator
    if module is not None:
        whole = type(module).__module__.startswith("torch.nn.modules.") or type(module).__qualname__ == "Operation"
        if whole or (calls == 1 and next(module.children(), None) is None):
            return site.path
    return f"{site.path}.{site.operator}"


def unique(name: str, taken: set[str]) -> str:
    """Return ``name``, or ``name_1``, ``name_2`` ... when it is taken, and take it."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def check_example(network: nn.Module, example: Any) -> tuple[Tensor, ...]:
    """Return the inputs of a dry run, at least two images since batch norm needs them, where the network is.

    Raises: UsageError for what is no float32 tensor.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    device = next((parameter.device for parameter in network.parameters()), None)
    found = []
    for value in inputs:
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value)
        if value.is_floating_point() and value.dtype != torch.float32:
            raise UsageError(f"the example is {value.dtype}; emulation carries every format in float32: give float32 images")
        found.append((torch.cat([value, value]) if len(value) == 1 else value[:2]).detach().to(device))
    for name, parameter in network.named_parameters():
        if parameter.dtype != torch.float32:
            raise UsageError(
                f"parameter {name!r} is {parameter.dtype}; emulation carries every format in float32: call module.float() first"
            )
    return tuple(found)

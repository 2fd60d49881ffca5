"""Sees every torch function that a network calls, and in which of its modules, without changing its source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from convsmith.precision.operators import QUESTIONS, operator_name

Call = tuple[str, str, int]
"""Path of the innermost module, operator, and how many calls of that operator in that module came before in this pass."""

Handler = Callable[[Call, Any, tuple[Any, ...], dict[str, Any]], Any]


class Interceptor(TorchFunctionMode):
    """Hands each call to ``handler(call, function, args, kwargs)``, but for questions about a tensor. Inside the handler it is off."""

    def __init__(self, network: nn.Module, handler: Handler) -> None:
        super().__init__()
        self.paths = {id(module): path for path, module in network.named_modules()}
        self.path = ""
        self._handler = handler
        self._stack: list[str] = []
        self._seen: dict[tuple[str, str], int] = {}
        self._names: dict[Any, str] = {}
        self._thread = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func.__name__ == "__get__":
            return func(*args, **(kwargs or {}))
        name = self._names.get(func)
        if name is None:
            name = self._names[func] = operator_name(func)
        if name in QUESTIONS:
            return func(*args, **(kwargs or {}))
        place = (self.path, name)
        count = self._seen.get(place, 0)
        self._seen[place] = count + 1
        return self._handler((*place, count), func, args, kwargs or {})

    @contextmanager
    def listening(self, path: str = "") -> Iterator[None]:
        """Intercept for the time of the block; calls outside of modules count as made in ``path``."""
        self.path, self._stack, self._seen, self._thread = path, [], {}, threading.get_ident()
        hooks = (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave))
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() == self._thread:
            self._stack.append(self.path)
            self.path = self.paths.get(id(module), self.path)

    def _leave(self, module: nn.Module, args: Any, result: Any) -> None:
        if threading.get_ident() == self._thread:
            self.path = self._stack.pop()


def tensors_in(values: Any) -> Iterator[tuple[int | str, torch.Tensor]]:
    """Yield the tensors among arguments with their places, those inside lists under the list's place."""
    for place, value in values:
        if isinstance(value, torch.Tensor):
            yield place, value
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, torch.Tensor):
                    yield place, item

"""A torch module becomes a ``Graph``, and a ``Graph`` becomes a torch module again."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from convsmith.errors import UnsupportedError, near
from convsmith.graph import Graph, Value, prune
from convsmith.interop import aten
from convsmith.interop.recorder import Array, Recorder, Shape
from convsmith.interop.torch_module import GraphModule
from convsmith.models.modes import in_evaluation

__all__ = ["GraphModule", "read", "write"]

BATCH = 2
"""The traced batch: torch would take 1 for a constant."""


def read(module: nn.Module, example_shape: Shape = (1, 3, 224, 224), name: str = "") -> Graph:
    """Read a torch module as it is in evaluation mode, for any batch of inputs of one size.

    Nodes are named by module path (``layer1.0.conv1``); an operation that is no module by its path and operator
    (``layer1.0.add``). ``example_shape`` is ``(batch, channels, rows, columns)``; its batch is ignored. Dropout and
    other operations without effect leave no node. The module's mode is left as it was. A ``GraphModule`` gives its graph back.

    Raises: ``UnsupportedError`` with operator and module path where an operator or a use of the batch is unknown.
    """
    if isinstance(module, GraphModule):
        return module.to_graph()
    with in_evaluation(module):
        program = trace(module, tuple(example_shape))
    return Walk(module, program, name or type(module).__name__.lower()).graph()


def write(graph: Graph) -> GraphModule:
    """Return a torch module with the same outputs; see ``GraphModule``."""
    return GraphModule(graph)


def trace(module: nn.Module, shape: Shape) -> torch.export.ExportedProgram:
    """Export with a free first axis; torch's own refusal becomes an ``UnsupportedError``."""
    parameter = next(module.parameters(), None)
    if parameter is not None and parameter.dtype not in (torch.float32, torch.float64):
        raise UnsupportedError(f"a module of {parameter.dtype}; allowed are float32 and float64: call module.float() first")
    dtype, device = (torch.float32, None) if parameter is None else (parameter.dtype, parameter.device)
    example = torch.zeros((BATCH, *shape[1:]), dtype=dtype, device=device)
    try:
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UnsupportedError(
            f"{type(module).__name__} cannot be traced with input {shape}: {type(error).__name__}: {reason[0] if reason else ''}"
        ) from error


class Walk:
    """One pass over a traced program."""

    def __init__(self, module: nn.Module, program: torch.export.ExportedProgram, name: str) -> None:
        self.module, self.program, self.name = module, program, name
        self.values: dict[fx.Node, str] = {}
        self.lists: dict[fx.Node, tuple[str, ...]] = {}
        self.roots: dict[fx.Node, fx.Node] = {}
        self.stale: set[fx.Node] = set()
        self.inputs: list[Value] = []
        signature = program.graph_signature
        self.stored: Mapping[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        calls = [node for node in program.graph.nodes if node.op == "call_function" and short_name(node) not in SILENT]
        self.calls_per_module = Counter(scope(node)[:2] for node in calls)
        self.recorder = Recorder(set(self.stored.values()) | {"input"})

    def graph(self) -> Graph:
        outputs: tuple[Any, ...] = ()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.placeholder(node)
            elif node.op == "call_function":
                self.call(node)
            elif node.op == "output":
                outputs = tuple(node.args[0])
        recorder = self.recorder
        names = [self.resolve(item, "the return of the module") for item in outputs]
        if not names or not all(isinstance(name, str) for name in names):
            raise UnsupportedError(f"{self.name} returns something else than tensors")
        values = tuple(Value(key, recorder.shapes[key], dtype_of(item)) for key, item in zip(names, outputs, strict=True))
        return prune(Graph(self.name, tuple(self.inputs), values, tuple(recorder.nodes), recorder.weights))

    def placeholder(self, node: fx.Node) -> None:
        shape = static(node.meta["val"].shape)
        if node.name not in self.stored:
            if shape[:1] != (-1,):
                raise UnsupportedError(f"{self.name} works for a batch of {BATCH} only: it uses the batch size as a constant")
            name = "input" if not self.inputs else node.name
            self.inputs.append(Value(name, shape, dtype_of(node)))
        else:
            name = self.stored[node.name]
            state = self.program.state_dict.get(name)
            tensor = self.program.constants[name] if state is None else state
            self.recorder.weights[name] = array_of(name, tensor)
        self.values[node], self.recorder.shapes[name] = name, shape

    def call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node) and isinstance(index, int)
            if index < len(self.lists[source]):
                self.keep(node, self.lists[source][index])
                self.roots[node] = self.roots.get(source, source)
            return
        path, _, kind = scope(node)
        operator_name = short_name(node)
        if not isinstance(node.target, torch._ops.OpOverload) or operator_name in SILENT:
            return
        self.recorder.where = self.node_name(node)
        if kind == "torch.nn.modules.normalization.LocalResponseNorm":
            if operator_name == "div":
                self.local_response_norm(node, path)
            return
        handler = aten.HANDLERS.get(operator_name)
        if handler is None:
            raise UnsupportedError(
                f"operator {node.target} in module {path or '(root)'!r} is not supported.{near(operator_name, aten.HANDLERS)}"
            )
        first = node.meta["val"][0] if isinstance(node.meta["val"], (list, tuple)) else node.meta["val"]
        self.recorder.out_shape = static(first.shape)
        try:
            result = handler(self.recorder, {key: self.resolve(value, str(node.target)) for key, value in bind(node).items()})
        except UnsupportedError as error:
            raise UnsupportedError(f"{error} (operator {node.target} in module {path or '(root)'!r})") from None
        self.finish(node, operator_name, result)

    def finish(self, node: fx.Node, operator_name: str, result: str) -> None:
        """Record the result; an operation in place also replaces its target, and views of that become unusable."""
        if isinstance(node.meta["val"], (list, tuple)):
            last = self.recorder.nodes[-1]
            self.lists[node] = last.outputs if last.op == "Split" else (result,)
        else:
            self.keep(node, result)
        if not node.args or not isinstance(node.args[0], fx.Node):
            return
        source = node.args[0]
        root = self.roots.get(source, source)
        if operator_name in aten.VIEWS:
            self.roots[node] = root
        if node.target._schema.name.endswith("_") and operator_name != "detach":  # type: ignore[union-attr]
            self.stale |= {other for other in (*self.values, root) if self.roots.get(other, other) is root}
            self.stale.discard(source)
            self.values[source] = result
            self.roots[node] = root
            self.stale.discard(node)

    def keep(self, node: fx.Node, name: str) -> None:
        self.values[node] = name
        self.recorder.shapes[name] = static(node.meta["val"].shape)

    def resolve(self, value: Any, user: str) -> Any:
        """Replace traced tensors by value names, in lists too; a size stays what it was traced to, or -1."""
        if isinstance(value, (list, tuple)):
            return [self.resolve(item, user) for item in value]
        if not isinstance(value, fx.Node):
            return value
        if value in self.stale:
            raise UnsupportedError(f"a view is read after its base was changed in place ({user}); use the operation out of place")
        if value in self.values:
            return self.values[value]
        if value.target is operator.getitem and isinstance(value.args[0], fx.Node) and value.args[0] in self.lists:
            raise UnsupportedError(f"output {value.args[1]} of {value.args[0].target} is read")
        known = value.meta.get("val")
        return known if isinstance(known, int) else -1

    def node_name(self, node: fx.Node) -> str:
        path, key, kind = scope(node)
        operator_name = short_name(node)
        if not path:
            return operator_name
        is_leaf = next(self.module.get_submodule(path).children(), None) is None
        whole = kind.startswith("torch.nn.modules.") or kind.endswith(".torch_module.Operation")
        if whole or (is_leaf and self.calls_per_module[path, key] == 1):
            return path
        return f"{path}.{operator_name}"

    def local_response_norm(self, node: fx.Node, path: str) -> None:
        """Emit one LRN for torch's eight operations; the last of them divides the module's input."""
        norm = self.module.get_submodule(path)
        assert isinstance(norm, nn.LocalResponseNorm)
        if norm.size % 2 == 0:
            raise UnsupportedError(f"LocalResponseNorm of even size {norm.size} in module {path!r}: ONNX centres it differently")
        source = self.resolve(node.args[0], str(node.target))
        result = self.recorder.emit("LRN", source, size=norm.size, alpha=float(norm.alpha), beta=float(norm.beta), bias=float(norm.k))
        self.keep(node, result)


SILENT = frozenset({"getitem", "sym_size", "_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size"})
"""Calls that compute no tensor."""


def bind(node: fx.Node) -> dict[str, Any]:
    """Return the call's arguments by the names of the operator's schema, defaults filled in."""
    schema = node.target._schema  # type: ignore[union-attr]
    bound = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    bound.update({argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)})
    return {**bound, **node.kwargs}


def short_name(node: fx.Node) -> str:
    """Return the operator's plain name: ``add`` for ``aten.add_.Tensor``."""
    schema = getattr(node.target, "_schema", None)
    full = schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", str(node.target))
    return full if full.startswith("_") else full.rstrip("_")


def scope(node: fx.Node) -> tuple[str, str, str]:
    """Return path, call key and type name of the innermost module around an operation."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", "", ""
    key, (path, kind) = list(stack.items())[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if kind.startswith("_empty"):
        return "", "", ""
    return path.split("@")[0], key, kind


def static(shape: torch.Size) -> Shape:
    """Return the sizes, -1 for one that follows the batch; a traced size may turn out to be a constant later."""
    return tuple(n if isinstance(n, int) else int(n.node.expr) if n.node.expr.is_number else -1 for n in shape)


def dtype_of(node: fx.Node) -> str:
    return str(node.meta["val"].dtype).removeprefix("torch.")


def array_of(name: str, tensor: torch.Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        raise UnsupportedError(f"weight {name!r} is bfloat16; call module.float() first")
    return tensor.detach().cpu().numpy().copy()

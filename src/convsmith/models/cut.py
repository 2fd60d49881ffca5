"""The first stages of a network with a classifier of their own: smaller, and often better where the images differ from the source's."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from convsmith.errors import UsageError
from convsmith.models.modes import in_evaluation


class CutNetwork(nn.Module):
    """``body`` up to a stage, the average of each map, one linear layer. Parameters of the body keep their names below ``body``.

    Shapes: (batch, channels, height, width) -> (batch, classes).
    """

    def __init__(self, body: nn.Module, maps: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(maps, classes)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.body(x_nchw))))
        return logits


class _StageTracer(fx.Tracer):
    """Follows the network's own way through its modules and takes each whole that does not contain the stage."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return not self.stage.startswith(f"{qualified_name}.")


def cut(network: nn.Module, stage: str, classes: int, shape: tuple[int, int, int]) -> CutNetwork:
    """Return the part of a network up to the module ``stage``, sharing its weights, with a new head; ``shape``: of an image (c, h, w).

    Raises: UsageError when there is no such module, or what it gives are no maps.
    """
    if stage not in dict(network.named_modules()) or not stage:
        raise UsageError(f"the network has no module {stage!r} to be cut at; `convsmith probe` names its stages")
    graph = _StageTracer(stage).trace(network)
    ends = [node for node in graph.nodes if node.op == "call_module" and node.target == stage]
    if not ends:
        raise UsageError(f"the network never reaches {stage!r} on its way, so it cannot be cut there")
    for node in reversed(list(graph.nodes)):
        if node.op == "output":
            node.args = (ends[-1],)
        elif node.op != "placeholder" and not node.users and node is not ends[-1]:
            graph.erase_node(node)
    body = fx.GraphModule(network, graph)
    body.delete_all_unused_submodules()
    return CutNetwork(body, _maps(body, stage, shape), classes)


def _maps(body: nn.Module, stage: str, shape: tuple[int, int, int]) -> int:
    with in_evaluation(body), torch.inference_mode():
        found = body(torch.zeros(1, *shape))
    if found.dim() != 4:
        raise UsageError(f"{stage!r} gives no maps but {tuple(found.shape[1:])}; cut at a stage before it")
    return int(found.shape[1])

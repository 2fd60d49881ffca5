"""Networks cut after a stage: the same numbers as the whole network's stage, and readable by every later step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convsmith import models
from convsmith.errors import UsageError
from convsmith.interop import pytorch


@pytest.mark.parametrize(
    ("name", "stage", "maps", "size"),
    [
        ("resnet20", "layer2", 32, 32),
        ("resnet18", "layer1.1", 64, 64),
        ("mobilenet_v2", "features.6", 32, 64),
        ("mobilenet_v2", "features.13.conv.1", 576, 64),
        ("squeezenet1_1", "features.7", 256, 64),
        ("vgg11", "features.5", 128, 32),
        ("googlenet", "inception3b", 480, 64),
    ],
)
def test_a_cut_network_gives_what_the_stage_gives(name: str, stage: str, maps: int, size: int) -> None:
    torch.manual_seed(0)
    whole = models.load(name, classes=5, input_size=(size, size)).eval()
    torch.manual_seed(0)
    part = models.load(name, classes=3, input_size=(size, size), cut=stage).eval()
    part.body.load_state_dict({key: value for key, value in whole.state_dict().items() if key in part.body.state_dict()})
    held = []
    handle = dict(whole.named_modules())[stage].register_forward_hook(lambda module, inputs, output: held.append(output))
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        whole(x)
        maps_nchw = part.body(x)
        torch.testing.assert_close(maps_nchw, held[0], rtol=0, atol=0)
        assert maps_nchw.shape[1] == maps
        torch.testing.assert_close(part(x), part.classifier(held[0].mean((2, 3))), rtol=1e-5, atol=1e-5)
    handle.remove()
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


def test_the_graph_of_a_cut_network_answers_alike() -> None:
    torch.manual_seed(0)
    part = models.load("resnet20", classes=3, cut="layer1").eval()
    graph = pytorch.read(part, (1, 3, 32, 32))
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    from convsmith import compiler

    with torch.inference_mode():
        expected = part(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(compiler.interpret(graph)(x), expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_cut_says_so() -> None:
    with pytest.raises(UsageError, match=r"the network has no module 'layer9' to be cut at; `convsmith probe` names its stages"):
        models.load("resnet20", cut="layer9")
    with pytest.raises(UsageError, match=r"'linear' gives no maps but \(10,\); cut at a stage before it"):
        models.load("resnet20", cut="linear")

"""Names to networks: sizes, channels, classes, reproducibility and the words of each refusal."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from convsmith import models
from convsmith.errors import UsageError


def test_import_loads_no_torch() -> None:
    code = "import sys, convsmith.models as m; m.ZOO['resnet18']; m.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("side", [8, 9, 16, 28, 32, 47, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_smallnet_takes_every_small_size(side: int, channels: int) -> None:
    network = models.load("smallnet", classes=7, in_channels=channels, input_size=(side, side))
    assert network(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_seed_fixes_every_weight() -> None:
    for name in ("smallnet", "resnet20", "mlp", "lenet5"):
        torch.manual_seed(3)
        first = models.load(name).state_dict()
        torch.manual_seed(3)
        second = models.load(name).state_dict()
        torch.manual_seed(4)
        other = models.load(name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)


def test_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no model 'resnet81'\. Did you mean 'resnet18'\? Allowed are smallnet, .*timm/<name>"):
        models.load("resnet81")


def test_input_too_small_says_what_to_use() -> None:
    with pytest.raises(UsageError, match=r"^resnet18 needs at least 32x32, got 8x8; use smallnet$"):
        models.load("resnet18", input_size=(8, 8))
    with pytest.raises(UsageError, match=r"^smallnet needs at least 8x8, got 4x9; use logistic or mlp$"):
        models.load("smallnet", input_size=(4, 9))


def test_unknown_option_is_named() -> None:
    with pytest.raises(UsageError, match="resnet20 has no option 'widht'"):
        models.load("resnet20", widht=3)


def test_pretrained_needs_a_file() -> None:
    with pytest.raises(UsageError, match=r"no weights come with resnet18; give a file with weights=\.\.\., or use timm/<name>"):
        models.load("resnet18", pretrained=True)


def test_register_refuses_a_duplicate() -> None:
    with pytest.raises(UsageError, match="the zoo has 'mlp' already"):
        models.register("mlp", models.ZOO["mlp"])

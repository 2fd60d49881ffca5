"""torchvision imports beside any build of torch, and without it the core works and says what to install."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.extra
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_guard_makes_the_import_work_and_can_be_called_twice() -> None:
    result = run(
        "from convsmith.models.torchvision_guard import guard\n"
        "assert guard() == guard()\n"
        "import torch, torchvision.models, torchvision.transforms\n"
        "print(torch.ops.torchvision.nms is not None, torchvision.models.resnet18)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("True")


@pytest.mark.extra
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_guard_defines_nothing_where_the_library_loads() -> None:
    result = run(
        "from convsmith.models import torchvision_guard\n"
        "torchvision_guard._library_loads = lambda package: True\n"
        "print(torchvision_guard.guard(), torchvision_guard._fragments)"
    )
    assert result.stdout == "False []\n", result.stderr


# an import hook that hides a package, as on a machine without the extra
HIDE = (
    "import importlib.util as u\n"
    "find = u.find_spec\n"
    "u.find_spec = lambda name, *rest: None if name in ('timm', 'torchvision') else find(name, *rest)\n"
)


def test_without_torchvision_the_core_works_and_timm_names_say_what_to_install() -> None:
    result = run(
        HIDE + "from convsmith import models\n"
        "from convsmith.models.torchvision_guard import guard\n"
        "models.load('resnet20'); print(guard())\n"
        "try:\n    models.load('timm/resnet18')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    assert result.stdout == (
        "False\nUsageError timm/resnet18 needs timm and torchvision; install them with: pip install 'convsmith[zoo]'\n"
    ), result.stderr

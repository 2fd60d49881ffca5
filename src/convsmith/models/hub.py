"""Weights that torchvision publishes, by the name of the architecture, fetched once and checked."""

from __future__ import annotations

import os
from pathlib import Path

from convsmith.data.public import download
from convsmith.errors import UsageError, near

ADDRESS = "https://download.pytorch.org/models/"

# the eight digits before the suffix are the beginning of the file's SHA-256, as the publisher names it
TORCHVISION: dict[str, str] = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg11": "vgg11-8a719046.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
    "squeezenet1_0": "squeezenet1_0-b66bff10.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
}


def cache() -> Path:
    """Return the folder of fetched weights: CONVSMITH_CACHE, else the user's cache."""
    given = os.environ.get("CONVSMITH_CACHE")
    return Path(given).expanduser() if given else Path("~/.cache/convsmith").expanduser()


def fetch(name: str, folder: Path | None = None, address: str = ADDRESS) -> Path:
    """Return the file of torchvision's weights for an architecture of the zoo, fetched on the first call.

    ``name``: with or without "torchvision/". Raises: UsageError for a name without published weights; DataError for a wrong
    checksum; ResourceError when it cannot be fetched.
    """
    name = name.removeprefix("torchvision/")
    if name not in TORCHVISION:
        raise UsageError(f"torchvision publishes no weights for {name!r}; there are {', '.join(TORCHVISION)}.{near(name, TORCHVISION)}")
    file = TORCHVISION[name]
    return download(address + file, file.rsplit("-", 1)[1].removesuffix(".pth"), (folder or cache()) / "torchvision" / file)

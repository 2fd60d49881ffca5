"""Run the contracts of convolutions and products on a native module built with sanitizers: ``make sanitize``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parent / "kernels"
CONTRACTS = [
    str(KERNELS / f"test_{name}.py")
    for name in (
        "algorithms_contract",
        "kernels_gradients",
        "kernels_bfloat16",
        "kernels_integers",
        "kernels_integer_winograd",
        "kernels_binary",
        "kernels_resampling",
    )
]


def main(module: str) -> int:
    """Put the module in the place of the installed one, then run the contracts."""
    spec = importlib.util.spec_from_file_location("convsmith._native", Path(module).resolve())
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["convsmith._native"] = loaded
    spec.loader.exec_module(loaded)
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *CONTRACTS]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

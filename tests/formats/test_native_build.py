"""The build of the native module on a machine without a C++ compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_without_a_compiler_the_install_stops_with_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        ["cmake", "-S", Path(__file__).parents[2], "-B", tmp_path],
        env={**os.environ, "CXX": "/nowhere/c++"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    message = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert message.count("CMake Error") == 1
    assert (
        "Convsmith compiles its number kernels and found no C++ compiler: install g++ 12 or newer "
        "(Debian and Ubuntu: apt install g++) or name one in the environment variable CXX, then install again."
    ) in message

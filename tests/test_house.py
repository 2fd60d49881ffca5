"""The rules of the house that import-linter cannot see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "convsmith"
WITHOUT_TORCH = ("formats", "graph", "kernels", "analysis", "redesign", "compiler", "targets", "runs", "report", "sweeps", "serving")
LIGHT = ("data", "models", "interop", "precision", "training", "jobs", "queue", "cli")


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("rooms", [WITHOUT_TORCH, LIGHT], ids=["never torch", "torch on demand"])
def test_importing_a_room_does_not_load_torch(rooms: tuple[str, ...]) -> None:
    modules = loaded_by("\n".join(f"import convsmith.{room}" for room in rooms))
    assert f"convsmith.{rooms[0]}" in modules
    assert not modules & {"torch", "torchvision", "timm"}


def test_every_room_is_documented_and_explicit() -> None:
    for init in SOURCE.glob("*/__init__.py"):
        text = init.read_text()
        assert text.startswith('"""'), f"{init.parent.name}/__init__.py has no docstring"
        files = {path.stem for path in init.parent.glob("*.py")}
        if "__all__" in text:
            namespace: dict[str, object] = {}
            exec(text[text.index("__all__") :].split("]")[0] + "]", namespace)
            names = namespace["__all__"]
            assert isinstance(names, list)
            assert not files & set(names), f"{init.parent.name} exports a name equal to one of its files"


def test_no_file_is_long_and_none_is_a_drawer() -> None:
    drawers = {"util", "utils", "common", "core", "base", "helper", "helpers", "misc", "manager"}
    for path in SOURCE.rglob("*.py"):
        assert path.stem not in drawers, path
        assert len(path.read_text().splitlines()) <= 600, path


def test_every_room_is_mirrored_in_tests() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    mirrored = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert rooms <= mirrored, f"rooms without tests: {sorted(rooms - mirrored)}"

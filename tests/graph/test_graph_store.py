"""Saved graphs come back bit for bit, and broken files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convsmith.errors import DataError
from convsmith.graph import Graph, Node, Value, load, save


def graph_of_all_kinds() -> Graph:
    nodes = (
        Node("a.0", "Conv", ("x", "w", "b"), ("a.0",), {"pads": (1, 1, 1, 1), "group": 1, "auto_pad": "NOTSET"}),
        Node("a.1", "LRN", ("a.0",), ("a.1",), {"size": 5, "alpha": 1e-4, "beta": 0.75}),
        Node("a.2", "Clip", ("a.1", "", "most"), ("y",)),
        Node("a.3", "Split", ("y", "sizes"), ("left", "right"), {"axis": 1}),
    )
    weights = {
        "w": np.asarray([0.1, -0.0, np.nan, np.inf, 1e-45, 3e38] * 6, np.float32).reshape(2, 2, 3, 3),
        "b": np.asarray([1 / 3, -1 / 7], np.float64),
        "most": np.asarray(6, np.float32),
        "sizes": np.asarray([1, 1], np.int64),
    }
    return Graph("naïve net", (Value("x", (-1, 2, 4, 4)),), (Value("left", (-1, 1, 4, 4)), Value("right", (-1, 1, 4, 4))), nodes, weights)


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    path = tmp_path / "net graph"
    save(graph_of_all_kinds(), path)
    assert load(path) == graph_of_all_kinds()
    assert [file.name for file in tmp_path.iterdir()] == ["net graph"]


def test_arrays_open_in_any_safetensors_reader(tmp_path: Path) -> None:
    save(graph_of_all_kinds(), tmp_path / "net")
    assert load_file(tmp_path / "net")["sizes"].tolist() == [1, 1]


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net"
    save(graph_of_all_kinds(), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(graph_of_all_kinds(), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net"
    with pytest.raises(DataError, match="is not a saved graph"):
        load(path)
    save_file({"w": np.zeros(2, np.float32)}, path)
    with pytest.raises(DataError, match="is a safetensors file without a graph in it"):
        load(path)
    save_file({}, path, metadata={"convsmith.graph": '{"version": 99}'})
    with pytest.raises(DataError, match="has version 99; this Convsmith reads version 1"):
        load(path)
    save_file({}, path, metadata={"convsmith.graph": '{"version": 1, "name": "g"}'})
    with pytest.raises(DataError, match="holds a broken graph"):
        load(path)
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(DataError, match="is not a saved graph"):
        load(path)

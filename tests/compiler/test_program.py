"""Compiled programs: whole networks against torch, plans, files, threads, and what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from convsmith import compiler, models
from convsmith.compiler.memory import overlaps
from convsmith.compiler.store import KEY
from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.kernels import instruction_sets


def pair(name: str, channels: int, size: int, classes: int = 7) -> tuple[nn.Module, Graph]:
    torch.manual_seed(0)
    module = models.load(name, classes=classes, in_channels=channels, input_size=(size, size)).eval()
    return module, pytorch.read(module, (1, channels, size, size))


def images(batch: int, channels: int, size: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, channels, size, size), np.float32)


def agree(module: nn.Module, program: compiler.Program, x: np.ndarray) -> None:
    """Within 2e-5 of the largest score (float32 sums in another order, through some 50 layers), and the same best class."""
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    actual = program(x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-4
    np.testing.assert_array_equal(actual.argmax(1)[clear], expected.argmax(1)[clear])


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("smallnet", 1, 28), ("quicknet", 1, 28), ("lenet5", 1, 28), ("mlp", 1, 28), ("resnet20", 3, 32), ("mobilenet_v1", 3, 32),
        ("mobilenet_v2", 3, 32), ("googlenet", 3, 64), ("squeezenet1_0", 3, 64), ("squeezenet1_1", 3, 64), ("nin", 3, 32),
        ("alexnet", 3, 96), ("vgg11", 3, 32), ("vgg11_bn", 3, 32), ("resnet18", 3, 64), ("resnet50", 3, 64), ("photonet", 3, 64),
    ],
)  # fmt: skip
def test_zoo_networks_equal_torch(name: str, channels: int, size: int) -> None:
    module, graph = pair(name, channels, size)
    program = compiler.build(graph)
    for batch in (1, 3):
        agree(module, program, images(batch, channels, size))


def test_every_level_and_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    module, graph = pair("googlenet", 3, 64)
    x = images(2, 3, 64)
    for level in instruction_sets():
        monkeypatch.setenv("CONVSMITH_ISA", level)
        program = compiler.build(graph, threads=1)
        agree(module, program, x)
        # the result of a program does not depend on who computes what
        np.testing.assert_array_equal(compiler.build(graph, threads=3)(x), program(x))


def test_large_batches_and_free_image_sizes() -> None:
    module, graph = pair("resnet20", 3, 32)
    program = compiler.build(graph)
    agree(module, program, images(256, 3, 32))
    free = compiler.build(Graph(graph.name, (Value(graph.inputs[0].name, (-1, 3, -1, -1)),), graph.outputs, graph.nodes, graph.weights))
    for size in (32, 17, 50):
        agree(module, free, images(2, 3, size))
    with pytest.raises(UsageError, match=r"the inputs of '.*' have free sizes; give a shape for each"):
        free.describe()
    with pytest.raises(UsageError, match=r"has shape \(-1, 3, 32, 32\) \(-1 is any size\), got \(1, 3, 16, 32\)"):
        program(np.zeros((1, 3, 16, 32), np.float32))
    with pytest.raises(UsageError, match=r"is float64; the native engine takes float32 .*compiler\.interpret also float64"):
        program(np.zeros((1, 3, 32, 32)))


def test_fusions_leave_convolutions_only() -> None:
    _, graph = pair("resnet20", 3, 32)
    steps = compiler.build(graph).executable((1, 3, 32, 32)).steps
    kinds = [step.kind for step in steps]
    assert kinds.count("convolution") == 20 and "binary" not in kinds and "unary" not in kinds
    fused = [step.detail for step in steps if "+residual" in step.detail]
    assert len(fused) == 9 and all(detail.endswith("+residual +relu") for detail in fused)


def test_concatenations_are_written_in_place() -> None:
    _, graph = pair("googlenet", 3, 64)
    steps = compiler.build(graph).executable((2, 3, 64, 64)).steps
    copies = [step.node for step in steps if step.kind == "copy"]
    assert len(copies) == 1, copies  # the image, from NCHW


def test_values_alive_together_do_not_overlap() -> None:
    for name in ("googlenet", "mobilenet_v2"):
        _, graph = pair(name, 3, 64)
        executable = compiler.build(graph).executable((1, 3, 64, 64))
        spans: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for index, step in enumerate(executable.steps):
            for view in (step.target, *step.reads, *step.scratch):
                if view.space == "arena":
                    spans.setdefault(view.buffer, []).append(index)
                    reach = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + 1
                    sizes[view.buffer] = max(sizes.get(view.buffer, 0), reach)
        offsets = executable.arena.offsets
        for a in spans:
            for b in spans:
                if a < b and overlaps((min(spans[a]), max(spans[a])), (min(spans[b]), max(spans[b]))):
                    assert offsets[a] + sizes[a] <= offsets[b] or offsets[b] + sizes[b] <= offsets[a]
        total = sum(sizes.values())
        assert max(executable.arena.live_bytes) <= 4 * executable.arena.size < 4 * total / 2


def test_several_threads_at_a_time() -> None:
    _, graph = pair("smallnet", 1, 28)
    program = compiler.build(graph)
    expected = {batch: program(images(batch, 1, 28)) for batch in range(1, 5)}
    wrong: list[int] = []

    def work(batch: int) -> None:
        for _ in range(50):
            if not np.array_equal(program(images(batch, 1, 28)), expected[batch]):
                wrong.append(batch)

    workers = [threading.Thread(target=work, args=(batch,)) for batch in expected for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_files_keep_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_TUNING", str(tmp_path / "tuning.json"))
    _, graph = pair("lenet5", 1, 28)
    program = compiler.build(graph, tune=0.5, metadata={"labels": "[]"})
    x = images(2, 1, 28)
    expected = program(x)
    program.save(tmp_path / "a.program")
    again = compiler.load(tmp_path / "a.program")
    assert again.graph == program.graph and again.decisions == program.decisions and again.metadata == {"labels": "[]"}
    np.testing.assert_array_equal(again(x), expected)
    assert program.decisions and (tmp_path / "tuning.json").exists()
    recalled = compiler.build(graph, tune=True)
    recalled(x)
    assert recalled.decisions.items() >= program.decisions.items()


def test_decisions_within_an_accuracy_are_kept_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_TUNING", str(tmp_path / "tuning.json"))
    _, graph = pair("lenet5", 1, 28)
    program = compiler.build(graph, tune=0.5, accuracy=2e-5)
    x = images(2, 1, 28)
    expected = program(x)
    program.save(tmp_path / "a.program")
    again = compiler.load(tmp_path / "a.program")
    np.testing.assert_array_equal(again(x), expected)
    assert again.describe((2, 1, 28, 28)) == program.describe((2, 1, 28, 28))
    cached = (tmp_path / "tuning.json").read_text()
    assert "within 2e-05" in cached and all("within" not in name for name in program.decisions)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.program"
    with pytest.raises(DataError, match=r"a\.program is not a compiled program: "):
        compiler.load(path)
    save_file({"w": np.zeros(2, np.float32)}, path)
    with pytest.raises(DataError, match=r"is a safetensors file without a program in it; Program\.save writes one"):
        compiler.load(path)
    compiler.build(pair("lenet5", 1, 28)[1]).save(path)
    arrays = load_file(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"was changed or damaged after it was written: its checksum differs; compile it again"):
        compiler.load(path)
    save_file(arrays, path, metadata={KEY: '{"version": 2}'})
    with pytest.raises(DataError, match="its checksum differs"):
        compiler.load(path)


def test_what_the_engine_lacks_is_named_before_anything_runs() -> None:
    def graph(*nodes: Node) -> Graph:
        return Graph("g", (Value("x", (-1, 4)),), (Value("y", ()),), nodes, {"w": np.ones((4, 4), np.float32)})

    odd = graph(Node("a", "Attention", ("x",), ("a",)), Node("b", "ArgMax", ("a",), ("y",)))
    with pytest.raises(UnsupportedError, match=r"no native kernel for Attention \(node 'a'\), ArgMax \(node 'b'\); export to ONNX or Open"):
        compiler.build(odd)
    computed = graph(Node("a", "Identity", ("x",), ("a",)), Node("b", "Gemm", ("w", "x"), ("y",)))
    with pytest.raises(UnsupportedError, match=r"cannot run node 'b' \(Gemm\) on shapes \(4, 4\), \(4, 4\): its weights are computed"):
        compiler.build(computed)(np.zeros((4, 4), np.float32))
    whole = Graph("g", (Value("x", (4,), "int64"),), (Value("y", ()),), (Node("a", "Neg", ("x",), ("y",)),), {})
    with pytest.raises(UnsupportedError, match="input 'x' has type int64; the native engine takes float32"):
        compiler.build(whole)
    for arguments, message in (({"threads": 0}, "threads is 0"), ({"tune": -1.0}, "tune is -1.0"), ({"accuracy": 0.0}, "accuracy 0.0")):
        with pytest.raises(UsageError, match=message):
            compiler.build(pair("lenet5", 1, 28)[1], **arguments)  # type: ignore[arg-type]


def test_description_has_a_line_for_each_step() -> None:
    _, graph = pair("lenet5", 1, 28)
    program = compiler.build(graph, threads=2)
    text = program.describe().splitlines()
    assert "for 1x1x28x28 on" in text[0] and "at most 2 threads: 11 steps" in text[0]
    assert any("convolution 1-6 5x5" in line and " direct " in line for line in text)
    assert text[-1].startswith("peak memory of values and scratch ") and "MiB, weights " in text[-1]
    assert len(text) == len(program.executable((1, 1, 28, 28)).steps) + 3

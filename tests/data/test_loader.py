from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.workers import Pool
from convsmith.errors import DataError, ResourceError, UsageError

PREPROCESS = data.Preprocess(8, 10)


@pytest.fixture
def photos(class_folder) -> data.Dataset:
    return data.open(class_folder({"cat": 20, "dog": 20}, height=15, width=20))


def expected(split: data.Split, indices: np.ndarray) -> np.ndarray:
    return np.stack([data.resize(split.image(int(index)), PREPROCESS) for index in indices])


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("prefetch", [1, 2])
def test_batches_come_in_order_whatever_the_workers(photos, workers, prefetch) -> None:
    order = np.random.default_rng(0).permutation(len(photos.train))[:17]
    found = list(data.batches(photos.train, PREPROCESS, 4, order=order, workers=workers, prefetch=prefetch))
    assert [len(labels) for _, labels, _ in found] == [4, 4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate([indices for *_, indices in found]), order)
    for x_nhwc, labels, indices in found:
        assert x_nhwc.dtype == np.uint8 and x_nhwc.flags.writeable and x_nhwc.flags.c_contiguous
        assert labels.dtype == indices.dtype == np.int64
        np.testing.assert_array_equal(labels, photos.train.labels[indices])
        np.testing.assert_array_equal(x_nhwc, expected(photos.train, indices))


def test_batches_may_repeat_and_be_empty(photos) -> None:
    [(_, _, indices)] = data.batches(photos.train, PREPROCESS, 8, order=np.array([3, 3, 0]), workers=1)
    assert indices.tolist() == [3, 3, 0]
    assert list(data.batches(photos.train, PREPROCESS, 8, order=np.array([], np.int64), workers=1)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_is_the_whole_split_with_progress(photos, workers) -> None:
    steps: list[tuple[int, int]] = []
    found = data.pixels(photos.train, PREPROCESS, workers=workers, progress=lambda done, total: steps.append((done, total)))
    np.testing.assert_array_equal(found, expected(photos.train, np.arange(24)))
    assert steps[-1] == (24, 24)


def test_resident_images_are_gathered_resized_and_recoloured() -> None:
    digits = data.open("digits")
    native = data.Preprocess(8, 8, 1, mean=(0.5,), std=(0.5,))
    found = data.pixels(digits.val, native)
    np.testing.assert_array_equal(found, np.stack([digits.val.image(index) for index in range(len(digits.val))]))
    assert found.flags.writeable and not np.shares_memory(found, digits.val.images)
    larger = data.pixels(digits.val, data.Preprocess(12, 12))
    assert larger.shape == (359, 12, 12, 3)
    np.testing.assert_array_equal(larger[5], data.resize(digits.val.image(5), data.Preprocess(12, 12)))
    [(x_nhwc, labels, indices)] = data.batches(digits.val, native, 100, order=np.array([7, 2]), workers=2)
    np.testing.assert_array_equal(x_nhwc, found[[7, 2]])
    np.testing.assert_array_equal(labels, digits.val.labels[indices])


def test_any_other_split_works_too() -> None:
    class Two:
        labels = np.array([1, 0])

        def __len__(self) -> int:
            return 2

        def image(self, index: int) -> np.ndarray:
            return np.full((4, 4, 3), index, np.uint8)

        def name(self, index: int) -> str:
            return str(index)

        def size(self, index: int) -> tuple[int, int]:
            return 4, 4

    np.testing.assert_array_equal(data.pixels(Two(), data.Preprocess(2, 2))[:, 0, 0, 0], [0, 1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanished_after_the_scan(photos, workers) -> None:
    name = photos.train.name(5)
    (Path(photos.source) / name).unlink()
    with pytest.raises(DataError, match=f"'{name}' cannot be read: the file cannot be opened"):
        data.pixels(photos.train, PREPROCESS, workers=workers)


def test_a_worker_that_dies_is_a_clear_error(photos) -> None:
    iterator = data.batches(photos.train, PREPROCESS, 2, workers=1, prefetch=1)
    next(iterator)
    [child] = children()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ResourceError, match=r"a decoding process was killed by signal 9, perhaps for lack of memory; try fewer workers"):
        list(iterator)
    assert children() == []


def children() -> list[int]:
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not task.exists():
        pytest.skip("needs /proc to see child processes")
    return [int(word) for word in task.read_text().split()]


def test_an_iterator_left_early_leaves_no_process(photos) -> None:
    iterator = data.batches(photos.train, PREPROCESS, 2, workers=2)
    next(iterator)
    assert len(children()) == 2
    del iterator
    gc.collect()
    assert children() == []


def test_a_script_without_a_main_guard_and_with_torch_threads(class_folder, tmp_path: Path) -> None:
    root = class_folder({"cat": 5, "dog": 5})
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print('started')\n"
        "from convsmith import data\n"
        "dataset = data.open(sys.argv[1], workers=2)\n"
        "print(data.pixels(dataset.train, data.Preprocess(4, 4), workers=2).shape)\n"
        "assert 'torch' not in sys.modules\n",
        "utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-W", "error", script, root], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.split("\n"), done.stderr) == (["started", "(6, 4, 4, 3)", ""], "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0, workers 0, prefetch 2; allowed are at least 1, 0 and 1"),
        ({"batch": 4, "workers": -1}, "workers -1"),
        ({"batch": 4, "prefetch": 0}, "prefetch 0"),
        ({"batch": 4, "order": np.array([0, 24])}, "order holds indices 0 to 24; the split has 24 images"),
        ({"batch": 4, "order": np.array([-1])}, "order holds indices -1 to -1"),
    ],
)
def test_impossible_arguments(photos, options, message) -> None:
    with pytest.raises(UsageError) as caught:
        data.batches(photos.train, PREPROCESS, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_scanning_in_processes_finds_the_same(class_folder, workers) -> None:
    root = class_folder({"cat": 60, "dog": 60})
    (root / "cat" / "bad.png").write_bytes((root / "cat" / "000.png").read_bytes()[:100])
    (root / "dog" / "empty.png").touch()
    Image.new("RGB", (300, 300)).save(root / "dog" / "large.png")
    steps: list[tuple[int, int]] = []
    here = data.open(root, workers=0, max_pixels=50_000)
    there = data.open(root, workers=workers, max_pixels=50_000, progress=lambda done, total: steps.append((done, total)))
    assert there.problems == here.problems
    assert {(problem.name, problem.kind) for problem in here.problems} == {
        ("cat/bad.png", "truncated"),
        ("dog/empty.png", "empty"),
        ("dog/large.png", "too_large"),
    }
    assert data.fingerprint(here) == data.fingerprint(there)
    assert steps[-1] == (123, 123) and [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_interrupting_the_scan_ends_its_processes(class_folder) -> None:
    root = class_folder({"cat": 100, "dog": 100})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.open(root, workers=2, progress=interrupt)
    gc.collect()
    assert children() == []


def test_the_pool_keeps_the_order_and_passes_errors_on() -> None:
    with Pool(3, abs) as pool:
        assert list(pool.results(range(-50, 0), ahead=3)) == list(range(50, 0, -1))
    assert children() == []
    with Pool(1, data.read_image) as pool, pytest.raises(DataError, match="'/nowhere' cannot be read"):
        list(pool.results(["/nowhere"]))


def test_a_worker_ends_when_its_parent_is_killed(class_folder, tmp_path: Path) -> None:
    root = class_folder({"cat": 20, "dog": 20})
    code = (
        "import sys, os, signal\n"
        "from convsmith import data\n"
        "dataset = data.open(sys.argv[1])\n"
        "iterator = data.batches(dataset.train, data.Preprocess(4, 4), 2, workers=1)\n"
        "next(iterator)\n"
        "print(open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    children()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, env=environment, check=False)
    worker = int(done.stdout)
    for _ in range(100):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        subprocess.run(["sleep", "0.05"], check=True)
    else:
        pytest.fail(f"process {worker} still runs")


@pytest.mark.real_data
def test_photos_decode_alike_in_processes(real_data: Path) -> None:
    dataset = data.open(real_data / "data" / "flowers5", workers=2)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 250, "val": 100}
    preprocess = data.Preprocess(64, 64)
    np.testing.assert_array_equal(
        data.pixels(dataset.val, preprocess, workers=2), np.stack([data.resize(dataset.val.image(i), preprocess) for i in range(100)])
    )

"""idx, CIFAR, npz and the bundled digits: sources that are arrays in files."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from convsmith import data
from convsmith.data.cifar import safe_unpickle
from convsmith.errors import DataError


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: int = 40, test: int = 20, suffix: str = "", images: str = "-images-idx3-ubyte") -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("t10k", test)):
        arrays[part] = rng.integers(0, 256, (count, 6, 5), np.uint8)
        arrays[part + "-labels"] = np.arange(count) % 4
        for name, array in ((part + images, arrays[part]), (part + "-labels-idx1-ubyte", arrays[part + "-labels"])):
            raw = idx(array)
            (folder / (name + suffix)).write_bytes(gzip.compress(raw) if suffix == ".gz" else raw)
    return arrays


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_returns_the_arrays_and_keeps_the_test_part(tmp_path: Path, suffix) -> None:
    arrays = write_idx(tmp_path / "toy", suffix=suffix)
    dataset = data.open(tmp_path / "toy", val=0.3)
    assert (dataset.classes, dataset.channels) == (("0", "1", "2", "3"), 1)
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 28, "val": 12, "test": 20}
    np.testing.assert_array_equal(data.pixels(dataset.test, data.Preprocess(6, 5, 1, mean=(0.5,), std=(0.5,)))[..., 0], arrays["t10k"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["t10k-labels"])
    row = dataset.val.rows[0]
    assert dataset.val.name(0) == f"train-images-idx3-ubyte{suffix}[{row}]"
    np.testing.assert_array_equal(dataset.val.image(0)[:, :, 0], arrays["train"][row])
    assert dataset.test.name(3) == f"t10k-images-idx3-ubyte{suffix}[3]"


def test_idx_by_a_file_of_the_folder_and_dotted_names(tmp_path: Path) -> None:
    write_idx(tmp_path, images="-images.idx3-ubyte")
    assert len(data.open(tmp_path / "train-images.idx3-ubyte").test) == 20


def test_idx_class_names(tmp_path: Path) -> None:
    write_idx(tmp_path / "a")
    (tmp_path / "a" / "classes.txt").write_text("eins\nzwei\ndrei\nvier\n", "utf-8")
    assert data.open(tmp_path / "a").classes == ("eins", "zwei", "drei", "vier")
    (tmp_path / "a" / "classes.txt").write_text("eins\nzwei\n", "utf-8")
    with pytest.raises(DataError, match="labels 0 to 3, but there are 2 classes"):
        data.open(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-3], "announces 40 x 6 x 5 values but holds 1197; it is truncated or damaged"),
        (lambda raw: raw[:9], "ends inside its header (9 bytes)"),
        (lambda raw: b"", "is not an idx file: it starts with nothing"),
        (lambda raw: b"\0\0\x0d" + raw[3:], "holds idx values of type 0x0d; only unsigned bytes"),
        (lambda raw: gzip.compress(raw)[:-20], "is a damaged gzip file"),
        (lambda raw: gzip.compress(raw)[:4], "is a damaged gzip file"),
        (lambda raw: raw.replace(struct.pack(">I", 40), struct.pack(">I", 0xFFFFFFFF), 1), "truncated or damaged"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, change, message) -> None:
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        data.open(tmp_path)
    assert message in str(caught.value)


def test_idx_folders_that_do_not_fit(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "emnist-train-images-idx3-ubyte").write_bytes(b"x")
    with pytest.raises(DataError, match=r"has 2 train files of one kind.*put each data set in its own folder"):
        data.open(tmp_path)
    (tmp_path / "emnist-train-images-idx3-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(39)))
    with pytest.raises(DataError, match="'train-images-idx3-ubyte' has 40 images but 39 labels"):
        data.open(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="needs train-images-idx3-ubyte and train-labels-idx1-ubyte"):
        data.open(tmp_path)


def cifar_rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), np.arange(count) % 10


def upright(rows: np.ndarray) -> np.ndarray:
    """The pixel of row r, column c, channel k stands at 1024 k + 32 r + c."""
    r, c, k = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), indexing="ij")
    return rows[:, 1024 * k + 32 * r + c]


def test_cifar10_binary(tmp_path: Path) -> None:
    (train, labels), (test, test_labels) = cifar_rows(60, 0), cifar_rows(20, 1)
    for number, part in enumerate((slice(0, 30), slice(30, 60)), 1):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(np.c_[labels[part], train[part]].astype(np.uint8).tobytes())
    (tmp_path / "test_batch.bin").write_bytes(np.c_[test_labels, test].astype(np.uint8).tobytes())
    dataset = data.open(tmp_path)
    assert dataset.classes[:3] == ("airplane", "automobile", "bird")
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 50, "val": 10, "test": 20}
    np.testing.assert_array_equal(data.pixels(dataset.test, data.Preprocess(32, 32)), upright(test))
    np.testing.assert_array_equal(dataset.test.labels, test_labels)
    rows = dataset.train.rows
    np.testing.assert_array_equal(data.pixels(dataset.train, data.Preprocess(32, 32)), upright(train)[rows])
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert data.open(tmp_path).classes == tuple("abcdefghij")
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 3074)
    with pytest.raises(DataError, match=r"'test_batch\.bin' has 3074 bytes, not a multiple of 3073; it is truncated or not CIFAR-10"):
        data.open(tmp_path)


def test_cifar100_binary_takes_the_fine_labels(tmp_path: Path) -> None:
    rows, fine = cifar_rows(100, 2)
    for part in ("train", "test"):
        pixels = rows if part == "train" else rows[::-1] ^ 255
        (tmp_path / f"{part}.bin").write_bytes(np.c_[np.full(100, 7), fine, pixels].astype(np.uint8).tobytes())
    dataset = data.open(tmp_path)
    assert dataset.classes == tuple(map(str, range(10)))
    np.testing.assert_array_equal(dataset.test.labels, fine)


def python2_pickle(rows: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """What Python 2 and its NumPy wrote: protocol 2, byte strings, numpy.core.multiarray."""
    raw = pickle.dumps({b"data": rows, key: labels}, protocol=2)
    return raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_python(tmp_path: Path, hundred) -> None:
    (train, labels), (test, test_labels) = cifar_rows(60, 3), cifar_rows(20, 4)
    key = b"fine_labels" if hundred else b"labels"
    files = ("train", "test", "meta") if hundred else ("data_batch_1", "test_batch", "batches.meta")
    (tmp_path / files[0]).write_bytes(python2_pickle(train, labels.tolist(), key))
    (tmp_path / files[1]).write_bytes(python2_pickle(test, test_labels.tolist(), key))
    names = [f"class {index}".encode() for index in range(10)]
    (tmp_path / files[2]).write_bytes(pickle.dumps({b"fine_label_names" if hundred else b"label_names": names}, 2))
    dataset = data.open(tmp_path)
    assert dataset.classes[3] == "class 3"
    np.testing.assert_array_equal(data.pixels(dataset.test, data.Preprocess(32, 32)), upright(test))


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("bad", [Attack(), np.zeros(3), np.array([Attack()], object), {1, 2}, [1]])
def test_a_pickle_that_asks_for_more_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch, bad) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"'batch' (is not a CIFAR pickle that is safe to read|holds a)"):
        safe_unpickle("batch", pickle.dumps(bad, 2))
    assert list(tmp_path.iterdir()) == []


def test_damaged_cifar_pickles(tmp_path: Path) -> None:
    rows, labels = cifar_rows(30, 5)
    raw = python2_pickle(rows, labels.tolist())
    for bad, message in (
        (raw[:500], "is not a CIFAR pickle that is safe to read"),
        (pickle.dumps({b"data": rows}, 2), "has no list of labels"),
        (pickle.dumps({b"data": rows[:, :7], b"labels": []}, 2), r"has no b'data' of uint8 \(n, 3072\)"),
    ):
        (tmp_path / "data_batch_1").write_bytes(bad)
        with pytest.raises(DataError, match=message):
            data.open(tmp_path)


def test_npz_of_keras_and_of_one_pair(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 256, (30, 5, 4), np.uint8), np.arange(30) % 3 + 5
    np.savez(tmp_path / "keras.npz", x_train=x, y_train=y[:, None], x_test=x[:6] ^ 255, y_test=y[:6])
    dataset = data.open(tmp_path / "keras.npz")
    assert (dataset.name, dataset.classes) == ("keras", ("5", "6", "7"))
    np.testing.assert_array_equal(dataset.test.labels, np.arange(6) % 3)
    np.testing.assert_array_equal(dataset.test.image(2)[:, :, 0], x[2] ^ 255)
    np.savez_compressed(tmp_path / "pair.npz", images=x, labels=np.array(["ab", "c", "d"])[np.arange(30) % 3])
    dataset = data.open(tmp_path / "pair.npz")
    assert dataset.classes == ("ab", "c", "d")
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 18, "val": 6, "test": 6}
    np.savez(tmp_path / "named.npz", images=x, labels=y - 5, class_names=np.array(["p", "q", "r"]))
    assert data.open(tmp_path / "named.npz").classes == ("p", "q", "r")


def test_npz_layouts_and_ranges(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.integers(0, 256, (30, 5, 4, 3), np.uint8), np.arange(30) % 3

    def first(images: np.ndarray) -> np.ndarray:
        np.savez(tmp_path / "x.npz", images=images, labels=y)
        return data.open(tmp_path / "x.npz", val=0, test=0).train.image(0)

    np.testing.assert_array_equal(first(x), x[0])
    np.testing.assert_array_equal(first(x.transpose(0, 3, 1, 2)), x[0])
    np.testing.assert_array_equal(first(x.astype(np.float32) / 255), x[0])
    np.testing.assert_array_equal(first(x.astype(np.int64)), x[0])
    np.testing.assert_array_equal(first(x.astype(np.float64)), x[0])
    alpha = np.concatenate([x, np.zeros_like(x[..., :1])], axis=3)
    alpha[1:, ..., 3] = 255
    assert (first(alpha) == 255).all()
    alpha[..., 3] = 255
    np.testing.assert_array_equal(first(alpha), x[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "has the arrays a; expected are x_train, y_train (and x_test, y_test), or images, labels"),
        ({"images": np.zeros((4, 5, 5, 2), np.uint8), "labels": np.arange(4)}, "has shape (4, 5, 5, 2); expected is (n, h, w)"),
        ({"images": np.full((4, 5, 5), -1.0), "labels": np.arange(4)}, "holds float64 from -1 to -1; expected is uint8"),
        ({"images": np.full((4, 5, 5), np.nan), "labels": np.arange(4)}, "holds float64 from nan to nan"),
        ({"images": np.zeros((4, 5, 5), np.uint8), "labels": np.arange(4) / 2}, "labels is float64 of shape (4,); expected are whole"),
        ({"images": np.zeros((4, 5, 5), np.uint8), "labels": np.arange(5)}, "has 4 images but 5 labels"),
        ({"images": np.array([Attack()], object), "labels": np.arange(1)}, "is not an npz of plain arrays"),
        ({"images": np.zeros((0, 5, 5), np.uint8), "labels": np.arange(0)}, "has shape (0, 5, 5, 1)"),
    ],
)
def test_npz_that_cannot_be(tmp_path: Path, arrays, message) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError) as caught:
        data.open(tmp_path / "x.npz")
    assert message in str(caught.value)


def test_a_damaged_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="is not an npz of plain arrays"):
        data.open(tmp_path / "x.npz")


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    truth = load_digits()
    dataset = data.open("digits")
    assert (dataset.name, dataset.channels, dataset.classes) == ("digits", 1, tuple("0123456789"))
    assert {part: len(split) for part, split in dataset.splits.items()} == {"train": 1079, "val": 359, "test": 359}
    rows = np.concatenate([dataset.splits[part].rows for part in ("train", "val", "test")])
    assert sorted(rows.tolist()) == list(range(1797))
    np.testing.assert_array_equal(dataset.train.labels, truth.target[dataset.train.rows])
    exact = truth.images[dataset.train.rows] * 255 / 16
    found = data.pixels(dataset.train, data.Preprocess(8, 8, 1, mean=(0.5,), std=(0.5,)))[..., 0]
    # rounded to whole levels
    assert np.abs(found - exact).max() <= 0.5


@pytest.mark.real_data
def test_mnist_and_fashion_mnist(real_data: Path) -> None:
    mnist = data.open(real_data / "data" / "mnist")
    # Y. LeCun's page: class counts of the 10,000 test images
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert {part: len(split) for part, split in mnist.splits.items()} == {"train": 54999, "val": 5001, "test": 10000}
    assert mnist.problems == ()
    whole = data.open(real_data / "data" / "mnist", val=0)
    preprocess, reason = data.choose_preprocess(whole)
    assert (preprocess.height, preprocess.width, preprocess.channels) == (28, 28, 1)
    assert reason.startswith("28x28 grey: the images' own size")
    # the customary 0.1307 and 0.3081 are those of all 60,000; ours of an even thousand
    assert preprocess.mean[0] == pytest.approx(0.1307, abs=0.003) and preprocess.std[0] == pytest.approx(0.3081, abs=0.003)
    fashion = data.open(real_data / "data" / "fashion-mnist")
    assert fashion.classes[0] == "T-shirt/top" and fashion.classes[9] == "Ankle boot"
    assert np.bincount(fashion.test.labels).tolist() == [1000] * 10


@pytest.mark.real_data
def test_original_cifar10(real_data: Path) -> None:
    dataset = data.open(real_data / "data" / "cifar10" / "original-4000")
    assert len(dataset.train) + len(dataset.val) == 3000 and len(dataset.test) == 1000
    # the first image of data_batch_1 is the well-known frog
    place = dataset.train.rows.tolist().index(0) if 0 in dataset.train.rows else None
    split = dataset.train if place is not None else dataset.val
    place = split.rows.tolist().index(0) if place is None else place
    assert dataset.classes[split.labels[place]] == "frog"
    assert split.image(place)[0, 0].tolist() == [59, 62, 63]

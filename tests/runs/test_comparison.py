"""Two runs compared image by image."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest

from convsmith import runs
from convsmith.errors import DataError, UsageError


def finished(folder: Path, right: list[bool], names: list[str], classes: tuple[str, ...] = ("cat", "dog"), **config: object) -> Path:
    made = runs.create(folder, "train", config)
    made.write_json("preprocess.json", {"classes": list(classes)})
    labels = [int(name.endswith("dog")) if classes[0] == "cat" else int(name.endswith("cat")) for name in names]
    logits = [[float((label == 0) == good), float((label == 1) == good)] for label, good in zip(labels, right, strict=True)]
    made.write_predictions(logits, labels, names)
    made.finish()
    return folder


def test_paired_by_name_in_any_order_with_other_class_order(tmp_path: Path) -> None:
    names = [f"{index}-{'dog' if index % 3 else 'cat'}" for index in range(60)]
    right_a = [index % 4 != 0 for index in range(60)]
    a = finished(tmp_path / "a", right_a, names, seed=1, training={"epochs": 3, "lr": 0.1})
    order = list(reversed(range(10, 60)))
    b = finished(
        tmp_path / "b", [index != 59 for index in order], [names[i] for i in order], ("dog", "cat"), seed=2, training={"epochs": 3}
    )
    found = runs.compare(a, b)
    only_a = 1
    only_b = sum(not right_a[index] for index in range(10, 60))
    assert (found.paired.n, found.images_a, found.images_b) == (50, 60, 50)
    assert (found.paired.only_a, found.paired.only_b) == (only_a, only_b)
    assert found.accuracy_b == pytest.approx(49 / 50)
    assert found.paired.p_exact == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)
    assert found.differences == {"seed": (1, 2), "training.lr": (0.1, None)}


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", [True, False], ["1-cat", "2-dog"])
    b = finished(tmp_path / "b", [True, False], ["3-cat", "4-dog"])
    with pytest.raises(DataError, match=r"were tested on different images \('1-cat' \.\.\., '3-cat' \.\.\.\)"):
        runs.compare(a, b)
    c = runs.create(tmp_path / "c", "train", {})
    c.write_json("preprocess.json", {"classes": ["cat", "dog"]})
    c.write_predictions([[1.0, 0.0], [1.0, 0.0]], [1, 1], ["1-cat", "2-dog"])
    c.finish()
    with pytest.raises(DataError, match="1 of 2 shared test images have another label in c than in a"):
        runs.compare(a, c.folder)
    empty = runs.create(tmp_path / "d", "train", {})
    empty.finish("failed", error="x")
    with pytest.raises(UsageError, match="did not come to its test"):
        runs.compare(a, empty.folder)

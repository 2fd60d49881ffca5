"""What a person may give by mistake: one clear sentence, the right exit code, nothing changed and no run left half made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

Call = Callable[..., tuple[int, str, str]]


def picture(path: Path, seed: int, side: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return path


def two_classes(root: Path, each: int = 6, seed: int = 0) -> Path:
    for index in range(each):
        picture(root / "a" / f"{index}.png", seed + index)
        picture(root / "b" / f"{index}.png", seed + 100 + index)
    return root


def empty(root: Path) -> Path:
    root.mkdir()
    return root


def one_class(root: Path) -> Path:
    for index in range(6):
        picture(root / "only" / f"{index}.png", index)
    return root


def one_image_a_class(root: Path) -> Path:
    return two_classes(root, each=1)


def class_without_training_images(root: Path) -> Path:
    two_classes(root / "train")
    two_classes(root / "test", seed=1000)
    for index in range(3):
        picture(root / "test" / "c" / f"{index}.png", 200 + index)
    return root


def all_under_two_labels(root: Path) -> Path:
    for index in range(6):
        picture(root / "a" / f"{index}.png", index)
        picture(root / "b" / f"{index}.png", index)
    return root


def empty_files(root: Path) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index in range(200):
            (root / name / f"{index}.jpg").touch()
    return root


def symlink_loop(root: Path) -> Path:
    (root / "a").mkdir(parents=True)
    (root / "a" / "loop").symlink_to(root)
    return root


def enormous(root: Path) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.new("1", (20_000, 20_000)).save(root / name / "huge.png")
    return root


CASES = {
    empty: "is empty; put the images of each class in a folder",
    one_class: r"one class \('only'\)",
    one_image_a_class: "every class needs at least 3 different images",
    class_without_training_images: "no usable training image of c",
    all_under_two_labels: "every image stands under two or more labels",
    empty_files: "400 empty",
    symlink_loop: "a symbolic link to a folder above it",
    enormous: "20000 x 20000 pixels are more than the limit",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_images_that_cannot_be_used_end_with_3(make: Callable[[Path], Path], call: Call, tmp_path: Path, runs_root: Path) -> None:
    folder = make(tmp_path / "images")
    before = sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*"))
    code, _, err = call("forge", folder)
    assert code == 3, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert re.search(CASES[make], err), err
    assert len(err) < 2000
    assert before == sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*"))
    for run in runs_root.glob("*/run.json"):
        assert json.loads(run.read_text())["status"] == "failed"


def test_an_unreadable_folder_ends_with_3(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = two_classes(tmp_path / "images")
    plain = os.scandir

    def refuse(path: object = ".") -> object:
        if str(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    code, _, err = call("check", folder)
    assert code == 3
    assert "Permission denied" in err or "cannot be read" in err


def test_one_bad_thing_among_good_ones_is_listed_and_left_out(call: Call, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "images")
    (folder / "a" / "zero.png").touch()
    whole = picture(folder / "a" / "whole.png", 7, 40).read_bytes()
    (folder / "a" / "cut short.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "new\nline Ü 漢.png").write_bytes(picture(tmp_path / "x.png", 55).read_bytes())
    frames = [Image.fromarray(np.full((9, 9), value, np.uint8)) for value in (0, 120, 240)]
    frames[0].save(folder / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    picture(folder / "a" / "twice.png", 300)
    picture(folder / "b" / "twice.png", 300)
    code, out, err = call("check", folder, "--json")
    assert (code, err) == (0, "")
    problems = {Path(problem["name"]).name: problem for problem in json.loads(out)["result"]["problems"]}
    assert problems["zero.png"]["kind"] == "empty"
    assert problems["cut short.png"]["kind"] == "truncated"
    assert problems["moving.gif"]["kind"] == "animated" and not problems["moving.gif"]["left_out"]
    assert problems["twice.png"]["kind"] == "conflict"
    assert "new\nline Ü 漢.png" not in problems
    code, out, err = call("check", folder)
    assert code == 0 and "cut short.png" in out


def test_an_onnx_file_with_an_unknown_operator_is_named(call: Call, tmp_path: Path) -> None:
    shape = [1, 3, 8, 8]
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="odd/one", domain="example.org")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "odd", value[:1], value[1:])
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("example.org", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets), tmp_path / "odd.onnx")
    code, _, err = call("inspect", tmp_path / "odd.onnx")
    assert code == 2
    assert "Frobnicate" in err and "odd/one" in err
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    code, _, err = call("inspect", tmp_path / "broken.onnx")
    assert code == 3 and "broken.onnx" in err


def test_a_run_of_another_version_is_refused_whole(call: Call, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "future"
    folder.mkdir()
    described = json.loads((trained / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(described | {"schema": 99}))
    for words in (("runs", "show", folder), ("bench", folder), ("resume", folder)):
        code, _, err = call(*words)
        assert code == 2
        assert "99" in err and "version" in err
    assert json.loads((folder / "run.json").read_text())["schema"] == 99


@pytest.mark.slow
def test_a_hundred_thousand_empty_files_are_told_in_a_few_lines(call: Call, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(50_000):
            os.close(os.open(tmp_path / "images" / name / f"{index}.jpg", os.O_CREAT))
    code, _, err = call("check", tmp_path / "images")
    assert code == 3
    assert "100000 empty" in err and len(err) < 2000

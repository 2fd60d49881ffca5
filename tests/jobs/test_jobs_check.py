"""``check`` writes its page and list, and ``train`` honours the list and scores without the leaked images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convsmith import jobs
from convsmith.errors import DataError, UsageError
from convsmith.jobs import check


@pytest.fixture
def photos(tmp_path):
    """Two classes told apart by their brightness, in given parts, with one test image copied into train."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 3), ("test", 6)):
        for label, level in (("day", 150), ("night", 60)):
            folder = tmp_path / "photos" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                coarse = Image.fromarray(rng.integers(0, 100, (6, 6, 3), np.uint8)).resize((40, 40), Image.Resampling.BICUBIC)
                pixels = np.asarray(coarse) + level + rng.integers(0, 30, (40, 40, 1))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    with Image.open(tmp_path / "photos/test/day/2.png") as image:
        image.resize((44, 44)).save(tmp_path / "photos/train/day/copy.png")
    return tmp_path / "photos"


def test_the_page_shows_what_was_found(photos, tmp_path) -> None:
    page, listed = tmp_path / "check.html", tmp_path / "exclude.txt"
    result = jobs.perform("check", {"data": str(photos), "page": str(page), "list": str(listed)}).result
    html = page.read_text()
    assert "Nearly the same picture in two parts" in html and html.count("data:image/png;base64,") >= 2
    assert "http" not in html.replace("http-equiv", "") and "convsmith train" in html
    assert "train/day/copy.png\tleak\t" in listed.read_text() and "test/day/2.png\tleaked\t" in listed.read_text()
    text = check.lines(result)
    assert "Worth a look" in text and "nearly the same as 'test/day/2.png' in test" in text and "--exclude" in text
    with pytest.raises(UsageError, match=r"check\.html' exists already; name another file with --page"):
        jobs.perform("check", {"data": str(photos), "page": str(page)})


def test_a_folder_without_fault_is_said_to_be_so(tmp_path, photos) -> None:
    (photos / "train/day/copy.png").unlink()
    result = jobs.perform("check", {"data": str(photos), "page": str(tmp_path / "page.html")}).result
    assert result["findings"] == [] and "No problem was found." in check.lines(result)
    assert "nothing speaks against one of them" in (tmp_path / "page.html").read_text()


def test_training_honours_the_list_and_scores_without_the_leaked_images(photos, tmp_path) -> None:
    listed = tmp_path / "exclude.txt"
    jobs.perform("check", {"data": str(photos), "list": str(listed)})
    settings = {"data": str(photos), "epochs": 1, "threads": 1, "model": "lenet5", "size": 32, "leaked": str(listed)}
    result = jobs.perform("train", settings, out=str(tmp_path / "with")).result
    assert result["images"]["train"] == 25
    assert result["without_leaked"]["images"] == 11 and result["without_leaked"]["leaked"] == 1
    assert (tmp_path / "with" / "evaluation-without-leaked.json").exists()
    cleaner = jobs.perform("train", settings | {"exclude": str(listed), "leaked": None}, out=str(tmp_path / "without")).result
    assert cleaner["images"]["train"] == 24 and "without_leaked" not in cleaner
    again = jobs.perform("eval", {"run": str(tmp_path / "without")}).result
    assert again["top1"] == cleaner["top1"]  # the run knows its list
    with pytest.raises(DataError, match="names no test image"):
        (tmp_path / "other.txt").write_text("train/day/1.png\n")
        jobs.perform("train", settings | {"leaked": str(tmp_path / "other.txt")}, out=str(tmp_path / "third"))

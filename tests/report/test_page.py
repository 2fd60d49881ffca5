"""The page as a whole: well formed, self-contained, escaped, complete, and honest about what is not there."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
from fake_run import image, write_run
from page_reader import PageReader, read_page
from PIL import Image

from convsmith import report, runs
from convsmith.errors import UsageError
from convsmith.report.sections import SECTIONS

FILE_OF = {
    "choices": "decisions.json",
    "images": "dataset.json",
    "training": "events.jsonl",
    "averages": "averages.json",
    "cost": "analysis.json",
    "bits": "precision.json",
    "certificate": "certificate.json",
    "exported": "export.json",
    "speed": "bench.json",
    "quote": "quote.json",
}


@pytest.fixture(scope="module")
def page(run_folder: Path) -> PageReader:
    return read_page(report.render(run_folder))


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    """A run that the test may change."""
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def test_write_leaves_one_file(copy: Path) -> None:
    before = {path.name for path in copy.iterdir()}
    path = report.write(copy)
    assert path == copy / "report.html"
    assert {p.name for p in copy.iterdir()} == before | {"report.html"}
    assert path.read_text(encoding="utf-8") == report.render(copy)


def test_page_loads_nothing(page: PageReader, run_folder: Path) -> None:
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", report.render(run_folder))
    for _, attributes in page.elements:
        assert "onclick" not in attributes and "onload" not in attributes
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert page.all("link") == [] and len(page.scripts) == 1 and len(page.scripts[0]) < 500
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


def test_every_section_is_told(page: PageReader) -> None:
    assert [a["id"] for a in page.all("section")] == [section.key for section in SECTIONS]
    assert {a["href"] for a in page.all("a")} == {"#main"} | {f"#{section.key}" for section in SECTIONS}
    assert "could not be read" not in page.text
    for section in SECTIONS:
        assert section.absent not in page.text


def test_headline_says_what_you_got(page: PageReader, run_folder: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    assert f"{100 * evaluation['top1']:.1f} %" in page.text
    assert "Within your limit of 0.5 points: 6 bits (int6), 0.28 points lost on 360 test images that the search did not see." in page.text
    assert "On other images the drop may reach 1.1 points (95 % interval)." in page.text
    assert "104 kB" in page.text and "187 µs" in page.text


def test_is_accessible(page: PageReader) -> None:
    names = [name for name, _ in page.elements]
    assert [names.count(name) for name in ("h1", "main", "nav", "header", "footer")] == [1, 1, 1, 1, 1]
    assert page.all("html")[0]["lang"] == "en"
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert all(a.get("aria-label") if a.get("role") == "img" else a.get("aria-hidden") == "true" for a in page.all("svg"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_colours_have_contrast() -> None:
    style = (Path(report.__file__).parent / "templates" / "style.css").read_text()
    blocks = re.findall(r"\{([^{}]*--page:[^{}]*)\}", style)
    assert len(blocks) == 2  # light and dark
    for block in blocks:
        colour = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
        for text in ("ink", "soft", "link", "yes", "no"):
            assert contrast(colour[text], colour["page"]) >= 4.5, text
            assert contrast(colour[text], colour["panel"]) >= 4.5, text
        assert contrast(colour["ink"], colour["right"]) >= 4.5 and contrast(colour["ink"], colour["wrong"]) >= 4.5
        for index in range(1, 6):
            assert contrast(colour[f"series-{index}"], colour["page"]) >= 3  # WCAG 2.2, 1.4.11: graphics


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_source_without_a_test_part_is_not_called_tested(copy: Path) -> None:
    path = copy / "dataset.json"
    described = json.loads(path.read_text())
    described["counts"].pop("test")
    path.write_text(json.dumps(described))
    text = read_page(report.render(copy)).text
    assert "of 360 validation images are right" in text and "on 360 validation images" in text
    assert "The same images chose the best weights" in text


def test_command_can_be_pasted(page: PageReader) -> None:
    assert "convsmith forge 'my digits' --max-drop 0.5 --time 10m" in page.text
    assert "/opt/somewhere" not in page.text


@pytest.mark.parametrize("key", FILE_OF)
def test_a_part_that_was_not_done_says_so(copy: Path, key: str) -> None:
    (copy / FILE_OF[key]).unlink()
    text = read_page(report.render(copy)).text
    absent = {section.key: section.absent for section in SECTIONS}
    assert absent[key] in text
    assert sum(sentence in text for sentence in absent.values()) == 1


def test_a_run_that_only_began_has_a_page(tmp_path: Path) -> None:
    runs.create(tmp_path / "run", "train", {}, data="x", command=["convsmith", "train", "x"]).finish("failed", error="the disk is full")
    text = read_page(report.render(tmp_path / "run")).text
    assert "This run failed. the disk is full" in text
    assert "The network was not evaluated in this run." in text


@pytest.mark.parametrize("content", ["{broken", "[]", '{"layers": 3}', '{"layers": [{}]}', "17"])
def test_a_spoilt_file_costs_only_its_section(copy: Path, content: str) -> None:
    (copy / "analysis.json").write_text(content)
    text = read_page(report.render(copy)).text
    assert "This part of the run could not be read" in text or "The cost was not analysed in this run." in text
    assert "All formats that were tried" in text


@pytest.mark.parametrize("name", ["evaluation", "dataset", "precision", "export", "bench", "quote", "decisions", "preprocess", "model"])
def test_every_file_may_be_spoilt(copy: Path, name: str) -> None:
    (copy / f"{name}.json").write_text('{"surprise": [1, null]}')
    assert "Do it again" in read_page(report.render(copy)).text


def test_evaluation_comes_from_the_predictions_when_it_is_missing(copy: Path, page: PageReader) -> None:
    (copy / "evaluation.json").unlink()
    text = read_page(report.render(copy)).text
    assert page.text[page.text.index("Each class") : page.text.index("Can its confidence")] in text


def test_a_temperature_that_could_not_be_fitted_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "run", accuracy=1.0)
    text = read_page(report.render(tmp_path / "run")).text
    assert "Every validation image is right, so they do not tell by which temperature" in text
    assert "With the logits divided by" not in text


def test_all_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    classes = [evil, "a & b", "\"quoted\" 'x'", "</title><img src=x onerror=alert(1)>"]
    found = write_run(tmp_path / "run", classes=classes, accuracy=0.7)
    record = runs.attach(tmp_path / "run")
    record.write_json("decisions.json", [{"stage": evil, "choice": evil, "reason": evil}])
    record.write_json("mistakes/mistakes.json", [{"file": "00.png", "name": evil, "true": evil, "predicted": evil, "confidence": 0.5}])
    described = record.read_json("run.json")
    record.write_json("run.json", described | {"data": evil, "command": ["convsmith", evil], "error": evil, "versions": {evil: evil}})
    record.write_bytes("config.yaml", f"data: {evil}\n".encode())
    html = report.render(tmp_path / "run")
    page = read_page(html)
    assert evil not in html and len(page.scripts) == 1
    assert page.text.count(evil) > 10
    assert all(a.get("src", "data:").startswith("data:") for a in page.all("img"))
    assert found.classes[3] in page.text


def test_pictures_are_inside(page: PageReader, run_folder: Path) -> None:
    stored = json.loads((run_folder / "mistakes" / "mistakes.json").read_text())
    images = page.all("img")
    assert len(images) == len(stored) > 0
    content = base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,"))
    assert content == (run_folder / "mistakes" / stored[0]["file"]).read_bytes()
    assert images[0]["class"] == "coarse"  # 24 pixels a side: shown as squares, not smoothed away
    assert images[0]["alt"] == f"{stored[0]['name']}: {stored[0]['true']} taken for {stored[0]['predicted']}"


def test_a_list_of_mistakes_cannot_reach_other_files(copy: Path) -> None:
    (copy / "secret.png").write_bytes(b"secret")
    row = {"file": "../secret.png", "name": "x", "true": "1", "predicted": "2", "confidence": 0.9}
    (copy / "mistakes" / "mistakes.json").write_text(json.dumps([row]))
    page = read_page(report.render(copy))
    assert page.all("img") == [] and "no picture" in page.text


def test_thumbnails_come_from_the_caller(tmp_path: Path) -> None:
    found = write_run(tmp_path / "run", pictures=False)
    asked: list[int] = []

    def png(index: int) -> bytes:
        asked.append(index)
        buffer = io.BytesIO()
        Image.fromarray(image(index)[:, :, 0]).save(buffer, "PNG")
        return buffer.getvalue()

    page = read_page(report.render(tmp_path / "run", thumbnails=png))
    assert asked == [mistake.index for mistake in found.mistakes]
    assert len(page.all("img")) == len(asked)


def test_page_with_25_photos_stays_small(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    found = write_run(tmp_path / "run", accuracy=0.6, n=1000, pictures=False)
    noise = rng.integers(0, 256, (400, 600, 3), np.uint8)
    folder = report.save_mistakes(tmp_path / "run", found, lambda _: noise)
    with Image.open(folder / "24.png") as picture:
        assert picture.size == (96, 64)
    html = report.render(tmp_path / "run")
    images = read_page(html).all("img")
    assert len(images) == 25 and not any("class" in image for image in images)
    assert len(html) < 2_000_000


def test_hundred_classes_fit(tmp_path: Path) -> None:
    write_run(tmp_path / "run", classes=[f"kind of thing {i}" for i in range(100)], accuracy=0.5, n=5000, pictures=False)
    html = report.render(tmp_path / "run")
    assert "could not be read" not in read_page(html).text
    assert len(html) < 2_000_000


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run: it has no run\.json"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_done_again_counts_once(copy: Path) -> None:
    runs.attach(copy).event("epoch", epoch=24.0, step=216, loss=0.05, accuracy=1.0, lr=0.0, val_loss=0.1, val_accuracy=0.999, seconds=60.0)
    text = read_page(report.render(copy)).text
    assert "24 epochs in 1 min 00 s" in text and "epoch 24, with 99.9 %" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"confirmed": None}, "Within your limit of 0.5 points: 6 bits (int6), no accuracy lost on 360 validation images."),
        ({"chosen": None}, "No format that was tried stays within the limit of 0.5 points; the network keeps its 32-bit floats."),
        (
            {"confirmed": {"baseline": 0.98, "accuracy": 0.97, "drop": 1.0, "drop_low": -0.2, "drop_high": 2.2, "n": 300}},
            "Not confirmed: 6 bits (int6) kept the limit of 0.5 points with no accuracy lost on 360 validation images, "
            "but 1.00 points lost on 300 test images that the search did not see. On other images the drop may reach 2.2 points",
        ),
    ],
)
def test_verdict_follows_the_images(copy: Path, change: dict[str, object], expected: str) -> None:
    path = copy / "precision.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert expected in read_page(report.render(copy)).text

"""Videos through predict: every frame or the latest ones, lines of JSON, answers drawn on the frames."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from convsmith import runs, targets
from convsmith.data import video
from convsmith.errors import UsageError
from convsmith.jobs import footage, predict
from convsmith.jobs.classifier import Network

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (120, 120, 120))


def colour_network(delay_s: float = 0.0) -> Network:
    """Names the strongest colour; grey has no class that is sure."""

    def logits(images, batch):
        time.sleep(delay_s)
        return np.stack([image.mean((0, 1)) / 10 for image in images]).astype(np.float32)

    return Network("colours", ("red", "green", "blue"), logits, None, targets.Confidence(1.0, 0.9), "test")


def write(path: Path, count: int, rate: float = 25.0) -> Path:
    with video.Writer(path, rate) as writer:
        for index in range(count):
            writer.write(np.full((96, 128, 3), COLOURS[index % 4], np.uint8))
    return path


def look(path: Path, tmp_path: Path, network: Network, **more: object) -> tuple[dict | None, list[dict], list[str]]:
    asked = footage.Asked(str(path), **({"batch": 4, "drop": "auto", "seconds": 0.0, "overlay": None, "top": 2} | more))
    errors: list[str] = []
    with footage.lines_to(tmp_path / "lines.jsonl") as tell:
        found = footage.watch(asked, network, runs.Unrecorded(None, None), tell, errors)
    return found, [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()], errors


def test_every_frame_of_a_file_is_answered(tmp_path: Path) -> None:
    found, lines, errors = look(write(tmp_path / "a.mp4", 40), tmp_path, colour_network())
    assert errors == [] and found is not None and found["frames"] == 40 and found["dropped"] == 0
    assert found["seen"] == {"red": 0.25, "green": 0.25, "blue": 0.25, "not sure": 0.25}
    assert [line["frame"] for line in lines] == list(range(40)) and lines[25]["time_s"] == 1.0
    assert [line["best"][0]["class"] if line["sure"] else None for line in lines[:4]] == ["red", "green", "blue", None]
    assert all(len(line["best"]) == 2 for line in lines) and found["frames_per_s"] == pytest.approx(40 / found["seconds"])


def test_late_frames_are_dropped_and_counted_when_the_network_is_slow(tmp_path: Path) -> None:
    found, lines, _ = look(write(tmp_path / "a.mp4", 40, 50.0), tmp_path, colour_network(0.2), drop="late", batch=2)
    assert found is not None and found["frames"] + found["dropped"] == 40 and found["dropped"] > 10
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(numbers) and numbers[-1] == 39  # the newest is never the one that goes
    assert 0.2 <= found["median_delay_s"] < 1


def test_a_video_stops_after_the_seconds_it_was_given(tmp_path: Path) -> None:
    found, lines, _ = look(write(tmp_path / "a.mp4", 40), tmp_path, colour_network(), seconds=0.5)
    assert found is not None and 13 <= found["frames"] <= 16 and lines[-1]["time_s"] >= 0.5


def test_answers_are_drawn_on_the_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 12)
    look(path, tmp_path, colour_network(), overlay=tmp_path / "seen.mp4")
    plain, drawn = (video.Video(str(tmp_path / name)) for name in ("a.mp4", "seen.mp4"))
    pairs = list(zip(plain, drawn, strict=True))
    assert len(pairs) == 12 and drawn.rate == 25
    for before, after in pairs:
        assert before.time_s == pytest.approx(after.time_s, abs=1e-6)
        top, below = after.pixels[:10, :30].astype(int), after.pixels[40:].astype(int)
        # encoded twice: a few levels of each; the bar darkens and the letters whiten its corner
        assert np.abs(below - before.pixels[40:]).mean() < 8 and np.abs(top - before.pixels[:10, :30]).mean() > 30
        assert top.max() > 200
    plain.close()
    drawn.close()


def test_text_is_white_on_dark_and_leaves_the_rest() -> None:
    before = np.full((100, 200, 3), 90, np.uint8)
    after = footage.lettered(before, "rose 98.12 %")
    assert (after[40:] == before[40:]).all() and after[:12, :80].max() > 200 and after[1, 1, 0] < 60


def test_what_is_no_video_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("x")
    found, lines, errors = look(tmp_path / "bad.mp4", tmp_path, colour_network())
    assert found is None and lines == [] and "cannot be opened as a video" in errors[0]


def test_the_verb_takes_images_and_videos_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from convsmith.jobs import classifier

    monkeypatch.setattr(classifier, "open_network", lambda name, engine, threads, checkpoint: colour_network())
    path = write(tmp_path / "a.mp4", 8)
    Image.fromarray(np.full((9, 9, 3), COLOURS[1], np.uint8)).save(tmp_path / "x.png")
    given = {"run": "last", "images": (str(path), str(tmp_path / "x.png")), "jsonl": tmp_path / "out.jsonl", "csv": tmp_path / "out.csv"}
    found = predict.run(predict.Config(**given), runs.Unrecorded(None, None))
    assert found["predictions"][0]["best"][0]["class"] == "green" and found["videos"][0]["frames"] == 8
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"image", "sure", "best"}] + [{"video", "frame", "time_s", "sure", "best"}] * 8
    text = predict.lines(found)
    assert "frames/s" in text and "red 25.00 %" in text and f"written to {tmp_path / 'out.jsonl'}" in text
    with pytest.raises(UsageError, match=r"out\.csv exists; give another --csv, or --overwrite"):
        predict.run(predict.Config(**given), runs.Unrecorded(None, None))
    with pytest.raises(UsageError, match="--overlay writes one video of one video, and 0 are given"):
        predict.run(predict.Config(run="last", images=(str(tmp_path / "x.png"),), overlay=tmp_path / "o.mp4"), runs.Unrecorded(None, None))

"""Video files made here with PyAV: frames, their times, frames that are dropped or waited for, files that are none."""

from __future__ import annotations

import time
import wave
from pathlib import Path

import numpy as np
import pytest

from convsmith.data import video
from convsmith.errors import DataError

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


def write(path: Path, count: int = 30, rate: float = 25.0, side: int = 64) -> Path:
    """Write a video whose frame k has the colour k modulo 3."""
    with video.Writer(path, rate) as writer:
        for index in range(count):
            writer.write(np.full((side, side, 3), COLOURS[index % 3], np.uint8))
    return path


def test_frames_come_in_order_with_their_times_and_colours(tmp_path: Path) -> None:
    opened = video.Video(str(write(tmp_path / "a.mp4")))
    frames = list(opened)
    opened.close()
    assert [frame.number for frame in frames] == list(range(30)) and opened.count == 30 and opened.rate == 25
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(30)], abs=1e-6)
    for frame in frames:
        assert frame.pixels.shape == (64, 64, 3)
        # colours of a flat frame pass H.264 with 4:2:0 within a few levels
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), COLOURS[frame.number % 3], atol=8)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"] and opened.problem == ""


@pytest.mark.parametrize(
    ("place", "is_video", "live"),
    [
        ("a.MP4", True, False),
        ("a.jpg", False, False),
        ("/dev/video0", True, True),
        ("rtsp://camera/1", True, True),
        ("folder", False, False),
    ],
)
def test_what_is_a_video_is_told_by_its_name(place: str, is_video: bool, live: bool) -> None:
    assert (video.is_video(place), video.is_live(place)) == (is_video, live)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4' cannot be opened as a video: .*Invalid data"):
        video.Video(str(tmp_path / "text.mp4"))
    with pytest.raises(DataError, match="'/dev/video97' cannot be opened as a video"):
        video.Video("/dev/video97")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    with pytest.raises(DataError, match=r"sound\.wav' has no pictures, only audio"):
        video.Video(str(tmp_path / "sound.wav"))


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", 60).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    opened = video.Video(str(tmp_path / "cut.mkv"))
    frames = list(opened)
    opened.close()
    assert 0 < len(frames) < 60 and [frame.number for frame in frames] == list(range(len(frames)))


def frames_of(count: int) -> list[video.Frame]:
    return [video.Frame(index, index / 100, np.zeros((1, 1, 3), np.uint8)) for index in range(count)]


def test_a_reader_waits_when_nothing_may_be_dropped() -> None:
    reader = video.Reader(frames_of(50), 4, drop=False)
    time.sleep(0.05)
    found: list[int] = []
    while frames := reader.take(8):
        assert len(frames) <= 4
        found += [frame.number for frame in frames]
    reader.close()
    assert found == list(range(50)) and reader.dropped == 0


def test_a_reader_drops_the_oldest_when_it_may() -> None:
    reader = video.Reader(frames_of(50), 4, drop=True)
    reader._thread.join()
    assert [frame.number for frame in reader.take(3)] == [46, 47, 48] and [frame.number for frame in reader.take(3)] == [49]
    assert reader.dropped == 46 and reader.take(3) == []


def test_a_problem_while_reading_is_told_where_frames_are_taken() -> None:
    def broken():
        yield from frames_of(2)
        raise DataError("it broke")

    reader = video.Reader(broken(), 4, drop=False)
    assert len(reader.take(1)) == 1 and len(reader.take(9)) == 1
    with pytest.raises(DataError, match="it broke"):
        reader.take(1)


def test_frames_of_a_file_come_at_their_own_speed() -> None:
    began = time.perf_counter()
    assert [frame.number for frame in video.paced(iter(frames_of(11)))] == list(range(11))
    assert time.perf_counter() - began >= 0.1


def test_a_video_that_changes_its_size_or_has_a_strange_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a frame of 32 x 32 in a video of 64 x 64"), video.Writer(tmp_path / "a.mp4", 25) as writer:
        writer.write(np.zeros((64, 65, 3), np.uint8))
        writer.write(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.strange cannot be written as a video: .*; name it \.mp4 or \.mkv"):
        with video.Writer(tmp_path / "a.strange", 25) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))

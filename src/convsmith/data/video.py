"""Frames of video files, cameras and network streams, and videos written of frames (PyAV, the extra ``video``)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import DataError, UnsupportedError

SUFFIXES: Final = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv"})
SCHEMES: Final = ("rtsp://", "rtmp://", "http://", "https://", "udp://", "tcp://")
NO_AV: Final = "PyAV is not installed; install the extra: pip install 'convsmith[video]'"
USUAL_RATE: Final = Fraction(25)
OPEN_S: Final = 10.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One picture of a video: its number, counted from 0 over all that came, its time in seconds, and uint8 ``(h, w, 3)``."""

    number: int
    time_s: float
    pixels: Pixels


def is_video(place: str) -> bool:
    """Tell a video file, a camera (/dev/video0) or a stream (rtsp://...) by its name."""
    return is_live(place) or Path(place).suffix.lower() in SUFFIXES


def is_live(place: str) -> bool:
    """Tell what comes in its own time, whether it is read or not."""
    return place.startswith(SCHEMES) or place.startswith("/dev/video")


def av_module() -> Any:
    """Return the package; `UnsupportedError` when it is not installed."""
    try:
        import av
    except ImportError:
        raise UnsupportedError(NO_AV) from None
    return av


class Video:
    """A video that is open; iterate to get its frames once. ``rate``: frames a second as it says itself."""

    def __init__(self, place: str) -> None:
        """Raises: DataError for what cannot be opened or has no pictures; UnsupportedError without PyAV."""
        av = av_module()
        self.place = place
        options = {"format": "v4l2"} if place.startswith("/dev/video") else {}
        try:
            self.container = av.open(place, timeout=OPEN_S if is_live(place) else None, **options)
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{place!r} cannot be opened as a video: {_words(error)}") from None
        if not self.container.streams.video:
            kinds = ", ".join(stream.type for stream in self.container.streams) or "nothing"
            self.container.close()
            raise DataError(f"{place!r} has no pictures, only {kinds}")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.rate = float(self.stream.average_rate or USUAL_RATE)
        self.count = self.stream.frames or None
        self.problem = ""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a file that breaks off ends there, and ``problem`` says why."""
        av, number = av_module(), 0
        try:
            for picture in self.container.decode(self.stream):
                seconds = picture.time if picture.time is not None else number / self.rate
                yield Frame(number, float(seconds), picture.to_ndarray(format="rgb24"))
                number += 1
        except (av.FFmpegError, OSError) as error:
            if number == 0:
                raise DataError(f"{self.place!r} cannot be decoded: {_words(error)}") from None
            self.problem = f"{self.place!r} breaks off after {number} frames: {_words(error)}"

    def close(self) -> None:
        self.container.close()


class Reader:
    """Frames read by a thread of its own while others are looked at; at most ``room`` wait.

    When they come faster than they are taken, the thread waits, or with ``drop`` the oldest go, so that an answer is never older than
    those that wait; ``dropped`` counts them.
    """

    def __init__(self, frames: Iterable[Frame], room: int, *, drop: bool) -> None:
        self.dropped = 0
        self._waiting: deque[Frame] = deque()
        self._frames, self._room, self._drop = frames, room, drop
        self._change = threading.Condition()
        self._ended, self._problem = False, list[Exception]()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if not self._add(frame):
                    return
        except Exception as problem:  # told where the frames are taken
            self._problem.append(problem)
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _add(self, frame: Frame) -> bool:
        with self._change:
            if not self._drop:
                self._change.wait_for(lambda: len(self._waiting) < self._room or self._ended)
            if self._ended:
                return False
            if len(self._waiting) == self._room:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(frame)
            self._change.notify_all()
            return True

    def take(self, most: int) -> list[Frame]:
        """Wait for a frame, and return it with those behind it, ``most`` at the most; none when there are no more."""
        with self._change:
            self._change.wait_for(lambda: bool(self._waiting) or self._ended)
            found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._change.notify_all()
        if not found and self._problem:
            raise self._problem[0]
        return found

    def close(self) -> None:
        """Stop reading."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        self._thread.join(OPEN_S)


class Writer:
    """A video file written frame by frame as H.264 (MPEG-4 where that is not there); it appears under its name when it is closed whole."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.draft = path, path.with_name(f"{path.stem}.part{path.suffix}")
        self.rate = Fraction(rate).limit_denominator(1001)
        self.container: Any = None
        self.stream: Any = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.container is None:
            return
        for packet in self.stream.encode():
            self.container.mux(packet)
        self.container.close()
        self.draft.replace(self.path)

    def write(self, pixels: Pixels) -> None:
        """Add a frame; sides are cut to even numbers, which the codec needs, and later frames must have the first one's size."""
        av = av_module()
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        if self.container is None:
            self._open(av, height, width)
        if (height, width) != (self.stream.height, self.stream.width):
            raise DataError(f"a frame of {width} x {height} in a video of {self.stream.width} x {self.stream.height}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def _open(self, av: Any, height: int, width: int) -> None:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        try:
            self.container = av.open(str(self.draft), "w")
            self.stream = self.container.add_stream(codec, rate=self.rate)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise DataError(f"{self.path} cannot be written as a video: {_words(error)}; name it .mp4 or .mkv") from None
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"


def paced(frames: Iterator[Frame], speed: float = 1.0) -> Iterator[Frame]:
    """Yield the frames of a file as a camera would: each at its own time, divided by ``speed``."""
    began: float | None = None
    for frame in frames:
        began = time.perf_counter() - frame.time_s / speed if began is None else began
        time.sleep(max(0.0, began + frame.time_s / speed - time.perf_counter()))
        yield frame


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

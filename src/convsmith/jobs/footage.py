"""A video looked at frame by frame: batches, late frames dropped, answers as lines of JSON and on the frames themselves."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convsmith import runs
from convsmith.data import video
from convsmith.errors import DataError
from convsmith.jobs.classifier import Network
from convsmith.jobs.text import percent, printable

#: Frames that may wait: of a live video few, so that an answer is about what is there now.
LIVE_ROOM, STORED_ROOM = 4, 32
UNSURE: Final = "not sure"

Tell = Callable[[Any], None]


@dataclass(frozen=True)
class Asked:
    """Which video, and how it is looked at."""

    place: str
    batch: int
    drop: str
    seconds: float
    overlay: Path | None
    top: int

    @property
    def drops(self) -> bool:
        return self.drop == "late" or (self.drop == "auto" and video.is_live(self.place))


def watch(asked: Asked, network: Network, record: runs.Listener, tell: Tell, errors: list[str]) -> dict[str, Any] | None:
    """Return what was seen, how many frames a second were answered, and how many were dropped; None, and an error, for no video.

    A stored video whose late frames are dropped is played at its own speed. Ctrl-C ends a live video, whose result is returned.
    """
    try:
        opened = video.Video(asked.place)
    except DataError as error:
        errors.append(printable(error))
        return None
    frames = video.paced(iter(opened)) if asked.drops and not video.is_live(asked.place) else iter(opened)
    room = max(LIVE_ROOM, asked.batch) if asked.drops else max(STORED_ROOM, asked.batch)
    reader = video.Reader(frames, room, drop=asked.drops)
    looking = Looking(asked, network, opened, record, tell)
    try:
        with video.Writer(asked.overlay, opened.rate) if asked.overlay else nullcontext() as writer:
            looking.all_of(reader, writer)
    except KeyboardInterrupt:
        if not video.is_live(asked.place):
            raise
    except DataError as error:
        errors.append(printable(error))
        if not looking.frames:
            return None
    finally:
        reader.close()
        opened.close()
    if opened.problem:
        errors.append(printable(opened.problem))
    return looking.summary(reader.dropped)


class Looking:
    """What was seen of one video so far."""

    def __init__(self, asked: Asked, network: Network, opened: video.Video, record: runs.Listener, tell: Tell) -> None:
        self.asked, self.network, self.opened, self.record, self.tell = asked, network, opened, record, tell
        self.frames = 0
        self.seen: Counter[str] = Counter()
        self.delays: list[float] = []
        self.began = time.perf_counter()

    def all_of(self, reader: video.Reader, writer: video.Writer | None) -> None:
        """Look at batches until the video ends, or its time is over."""
        while frames := reader.take(self.asked.batch):
            taken = time.perf_counter()
            scores = self.network.scores([frame.pixels for frame in frames], self.asked.batch)
            for frame, row in zip(frames, scores, strict=True):
                self._answered(frame, self.network.named(row, self.asked.top), writer)
            self.delays += [time.perf_counter() - taken] * len(frames)
            self.record.progress("predict", self.frames, max(self.opened.count or 0, self.frames + 1))
            if self.asked.seconds and frames[-1].time_s >= self.asked.seconds:
                return

    def _answered(self, frame: video.Frame, answer: dict[str, Any], writer: video.Writer | None) -> None:
        self.frames += 1
        first = answer["best"][0]
        self.seen[first["class"] if answer["sure"] else UNSURE] += 1
        self.tell({"video": self.asked.place, "frame": frame.number, "time_s": round(frame.time_s, 6)} | answer)
        if writer:
            said = f"{first['class']} {percent(first['score'])}" if answer["sure"] else UNSURE
            writer.write(lettered(frame.pixels, said))

    def summary(self, dropped: int) -> dict[str, Any]:
        seconds = time.perf_counter() - self.began
        return {
            "video": self.asked.place,
            "frames": self.frames,
            "dropped": dropped,
            "seconds": seconds,
            "frames_per_s": self.frames / seconds,
            "median_delay_s": float(np.median(self.delays)) if self.delays else 0.0,
            "seen": {name: count / self.frames for name, count in self.seen.most_common()},
        }


def lettered(pixels: video.Pixels, text: str) -> video.Pixels:
    """Return the frame with a line of text at its top, white on a dark bar, as large as a sixteenth of its height."""
    picture = Image.fromarray(pixels)
    size = max(10, picture.height // 16)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture, "RGBA")
    left, _, right, bottom = draw.textbbox((size // 2, size // 3), text, font)
    draw.rectangle((0, 0, right + left, bottom + size // 3), fill=(0, 0, 0, 160))
    draw.text((size // 2, size // 3), text, fill="white", font=font)
    return np.asarray(picture)


@contextmanager
def lines_to(path: Path | None) -> Iterator[Tell]:
    """Yield what writes a value as a line of JSON to a file, at once; nothing without a file."""
    if path is None:
        yield lambda value: None
        return
    with path.open("w", encoding="utf-8") as file:

        def tell(value: Any) -> None:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            file.flush()

        yield tell

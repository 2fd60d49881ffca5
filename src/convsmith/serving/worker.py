"""A worker process: takes batches of requests from the server's socket, decodes, classifies, answers. Ends when the server does."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.data.decode import TooLarge
from convsmith.data.jpeg import decode_whole
from convsmith.errors import ConvsmithError, DataError
from convsmith.serving import kserve
from convsmith.serving.frames import IMAGE, Reply, Task, pack_replies, receive_tasks
from convsmith.serving.http import Refused, as_json, error
from convsmith.serving.limits import Limits
from convsmith.serving.model import Model, Pixels
from convsmith.serving.setting import Setting

BEST: Final = 5
DIGITS: Final = 6


@dataclass(frozen=True)
class Read:
    """A task whose images were decoded. ``wanted`` is None for one encoded image."""

    images: Sequence[Pixels]
    wanted: kserve.Wanted | None


class Worker:
    """Answers batches with one model."""

    def __init__(self, model: Model, name: str, limits: Limits) -> None:
        self.model, self.name, self.limits = model, name, limits
        self.labels = np.array(model.session.labels, object)
        self.threshold = model.session.confidence.threshold

    def answer(self, tasks: Sequence[Task]) -> list[Reply]:
        """Return one reply a task: what cannot be read is refused, and does not disturb the others."""
        read = [self._read(task) for task in tasks]
        good = [item for item in read if isinstance(item, Read)]
        found = self._classified(good)
        return [item if isinstance(item, Reply) else found[id(item)] for item in read]

    def _read(self, task: Task) -> Read | Reply:
        try:
            if task.kind == IMAGE:
                return Read([self._decoded(task.body)], None)
            wanted = kserve.read(task.body, task.json_bytes, self.limits)
            images = wanted.images if isinstance(wanted.images, np.ndarray) else [self._decoded(raw) for raw in wanted.images]
            return Read(list(images), wanted)
        except Refused as refused:
            return Reply(refused.status, error(refused.text))

    def _decoded(self, raw: bytes) -> Pixels:
        try:
            return decode_whole(raw, "the image", self.limits.pixels)
        except TooLarge as large:
            raise Refused(413, str(large)) from None
        except DataError as bad:
            raise Refused(400, str(bad)) from None

    def _classified(self, good: Sequence[Read]) -> dict[int, Reply]:
        """Return the answers by task: all at once, or each for itself when one of them fails."""
        images = [image for item in good for image in item.images]
        if not images:
            return {}
        try:
            scores, logits = self.model(images)
        except Exception as problem:  # whatever a runtime raises must not take the others' answers with it
            if len(good) == 1:
                return {id(good[0]): Reply(500, error(f"the network failed on it: {type(problem).__name__}"))}
            return {key: reply for item in good for key, reply in self._classified([item]).items()}
        replies, first = {}, 0
        for item in good:
            last = first + len(item.images)
            replies[id(item)] = self._reply(item, scores[first:last], logits[first:last])
            first = last
        return replies

    def _reply(self, item: Read, scores: NDArray[np.float32], logits: NDArray[np.float32]) -> Reply:
        if item.wanted is None:
            return Reply(200, as_json(self._named(scores[0])), 1)
        found = {"scores": scores, "logits": logits, "label": self.labels[scores.argmax(1)], "sure": scores.max(1) >= self.threshold}
        return kserve.write(self.name, item.wanted, found)

    def _named(self, scores: NDArray[np.float32]) -> dict[str, Any]:
        order = np.argsort(-scores, kind="stable")[:BEST]
        best = [{"class": self.labels[k], "score": round(float(scores[k]), DIGITS)} for k in order]
        sure = bool(scores[order[0]] >= self.threshold)
        return {"class": best[0]["class"] if sure else None, "sure": sure, "best": best}


def main(text: str) -> int:
    """Open the file, say that it is open, and answer until the server closes the socket."""
    setting = Setting.from_text(text)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides when workers end
    connection = socket.socket(fileno=setting.fd)
    try:
        model = Model(Path(setting.path), setting.runtime, setting.threads)
        model.warm_up(setting.most)
    except ConvsmithError as problem:
        connection.sendall(pack_replies([Reply(500, error(str(problem)))]))
        return problem.exit_code
    about = {"classes": len(model.session.labels), "channels": model.preprocess.channels, "runtime": model.session.runtime}
    connection.sendall(pack_replies([Reply(200, as_json(about))]))
    worker = Worker(model, setting.name, setting.limits)
    try:
        while (tasks := receive_tasks(connection)) is not None:
            connection.sendall(pack_replies(worker.answer(tasks)))
    except (BrokenPipeError, ConnectionResetError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

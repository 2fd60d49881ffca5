"""What a worker process is started with, as the text on its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from convsmith.serving.limits import Limits


@dataclass(frozen=True)
class Setting:
    """``fd``: the socket to the server; ``most``: images at once."""

    fd: int
    path: str
    name: str
    runtime: str | None
    threads: int
    most: int
    limits: Limits

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Setting:
        fields = json.loads(text)
        return cls(**(fields | {"limits": Limits(**fields["limits"])}))

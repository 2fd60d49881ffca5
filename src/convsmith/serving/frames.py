"""What the server and a worker say to each other over a socket: batches of jobs one way, batches of answers the other."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEAD: Final = struct.Struct("<II")  # bytes that follow, items
JOB: Final = struct.Struct("<BII")  # kind, bytes of the JSON head of a body with binary data, bytes
REPLY: Final = struct.Struct("<HHII")  # status, images, bytes of the JSON head, bytes
IMAGE, INFER = 0, 1


@dataclass(frozen=True, slots=True)
class Task:
    """One request's work. ``kind``: `IMAGE`, one encoded image, or `INFER`, a request of KServe, whose JSON may be a part only."""

    kind: int
    body: bytes
    json_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a task: status, body, how many images it had, and the bytes of JSON before binary data (0: all)."""

    status: int
    body: bytes
    images: int = 0
    json_bytes: int = 0


def pack_tasks(tasks: Sequence[Task]) -> list[bytes]:
    """Return the pieces of a message."""
    heads = b"".join(JOB.pack(task.kind, task.json_bytes, len(task.body)) for task in tasks)
    size = len(heads) + sum(len(task.body) for task in tasks)
    return [HEAD.pack(size, len(tasks)) + heads, *(task.body for task in tasks)]


def pack_replies(replies: Sequence[Reply]) -> bytes:
    """Return a message."""
    heads = b"".join(REPLY.pack(reply.status, reply.images, reply.json_bytes, len(reply.body)) for reply in replies)
    bodies = b"".join(reply.body for reply in replies)
    return HEAD.pack(len(heads) + len(bodies), len(replies)) + heads + bodies


def read_replies(content: bytes | memoryview, count: int) -> list[Reply]:
    """Return the replies of a message without its head."""
    replies, place = [], count * REPLY.size
    for index in range(count):
        status, images, json_bytes, size = REPLY.unpack_from(content, index * REPLY.size)
        replies.append(Reply(status, bytes(content[place : place + size]), images, json_bytes))
        place += size
    return replies


def receive_tasks(connection: socket.socket) -> list[Task] | None:
    """Wait for a batch; None when the server has gone."""
    head = _receive(connection, HEAD.size)
    if head is None:
        return None
    size, count = HEAD.unpack(head)
    content = _receive(connection, size)
    if content is None:
        return None
    tasks, place = [], count * JOB.size
    for index in range(count):
        kind, json_bytes, length = JOB.unpack_from(content, index * JOB.size)
        tasks.append(Task(kind, bytes(content[place : place + length]), json_bytes))
        place += length
    return tasks


def _receive(connection: socket.socket, size: int) -> memoryview | None:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        count = connection.recv_into(view[done:])
        if count == 0:
            return None
        done += count
    return view

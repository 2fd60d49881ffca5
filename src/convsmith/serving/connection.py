"""One client: its bytes become requests, one at a time; it has so long for each part of it and no longer."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final

from convsmith.serving.http import END, JSON, Head, Refused, answer, error, read_head

if TYPE_CHECKING:
    from convsmith.serving.server import Server

LINGER_S: Final = 2.0


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; requests that come before the last is answered wait in the buffer, which is bounded."""

    def __init__(self, server: Server) -> None:
        self.server, self.limits, self.metrics = server, server.limits, server.metrics
        self.transport: Any = None
        self.buffer = bytearray()
        self.head: Head | None = None
        self.busy = self.closing = self.advancing = self.paused = self.blocked = self.ended = False
        self.keep = self.whole = True
        self.deadline = math.inf
        self.arrived = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.deadline = time.monotonic() + self.limits.head_s
        if len(self.server.connections) >= self.limits.connections:
            self.metrics.events["connection refused"] += 1
            self.refuse(Refused(503, "too many clients are connected"))
        self.server.connections.add(self)

    def connection_lost(self, problem: Exception | None) -> None:
        self.server.connections.discard(self)
        self.closing, self.deadline = True, math.inf

    def eof_received(self) -> bool:
        """Stay open for the answers of a client that has said all it wants to say."""
        self.ended = True
        return self.busy or self.blocked

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if not self.buffer and self.head is None and not self.busy:
            self.deadline = time.monotonic() + self.limits.head_s
        self.buffer += data
        if not self.busy and not self.blocked:
            self.advance()
        if (self.busy or self.blocked) and len(self.buffer) > self.limits.head_bytes and not self.paused and not self.closing:
            self.paused = True
            self.transport.pause_reading()

    def advance(self) -> None:
        """Take requests out of the buffer until one has to wait for its answer, or for more bytes."""
        self.advancing = True
        try:
            while self.buffer and not self.busy and not self.closing and not self.blocked:
                if not self._take():
                    break
        except Refused as refused:
            self.refuse(refused)
        finally:
            self.advancing = False

    def _take(self) -> bool:
        """Begin one request; False when it is not whole yet."""
        if self.head is None:
            end = self.buffer.find(END, 0, self.limits.head_bytes + len(END))
            if end < 0:
                if len(self.buffer) > self.limits.head_bytes:
                    raise Refused(431, f"the head is longer than {self.limits.head_bytes:,} bytes")
                return False
            self.head = read_head(bytes(self.buffer[:end]))
            del self.buffer[: end + len(END)]
            self._welcome(self.head)
        head = self.head
        if len(self.buffer) < head.length:
            return False
        body = bytes(self.buffer[: head.length])
        del self.buffer[: head.length]
        self.head, self.busy, self.deadline, self.arrived = None, True, math.inf, time.monotonic()
        self.keep, self.whole = head.keep_alive and not self.server.stopping, head.method != "HEAD"
        self.server.handle(self, head, body)
        return True

    def _welcome(self, head: Head) -> None:
        """Refuse a body that is too long before it comes; give an allowed one its time."""
        if head.length > self.limits.body_bytes:
            raise Refused(413, f"the body has {head.length:,} bytes; at most {self.limits.body_bytes:,} are taken")
        self.deadline = time.monotonic() + self.limits.head_s + head.length / self.limits.least_bytes_per_s
        if head.expects and len(self.buffer) < head.length:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer(self, status: int, body: bytes, kind: str = JSON, more: str = "") -> None:
        """Answer the request that was begun, and go on with what the buffer holds."""
        self.metrics.answers[status] += 1
        self.metrics.seconds.observe(time.monotonic() - self.arrived)
        if self.closing:
            return
        self.busy = False
        self.deadline = time.monotonic() + self.limits.idle_s  # before the write, which may block and set another
        self.transport.write(answer(status, body, kind, keep=self.keep, more=more, whole=self.whole))
        if not self.keep:
            self.finish()
        elif not self.advancing:
            self._go_on()

    def _go_on(self) -> None:
        """Read again, and take what the buffer holds; a client that has ended its side and has nothing left is done."""
        if self.blocked:
            return
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
        self.advance()
        if self.ended and not self.busy:
            self.finish()

    def refuse(self, refused: Refused) -> None:
        """Say what is wrong, and end the connection: where the next request would begin is not known."""
        if self.closing:
            return
        self.metrics.answers[refused.status] += 1
        self.transport.write(answer(refused.status, error(refused.text), keep=False))
        self.finish()

    def finish(self) -> None:
        """End our side and read on for a moment, so that the client gets the answer before its unread bytes reset the connection."""
        self.closing = True
        self.buffer.clear()
        self.deadline = time.monotonic() + LINGER_S
        if self.ended:
            self.transport.close()
        elif self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def pause_writing(self) -> None:
        """The client does not take its answers: nothing more is begun for it, and it has so long."""
        self.blocked = True
        self.deadline = time.monotonic() + self.limits.write_s

    def resume_writing(self) -> None:
        self.blocked = False
        if not self.busy and not self.closing:
            self.deadline = time.monotonic() + self.limits.idle_s
            self._go_on()

    def expire(self) -> None:
        """The time for this part is over: a request that began is told so, everything else ends without a word."""
        began = self.head is not None or bool(self.buffer)
        if self.closing or not began or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        self.metrics.events["slow client"] += 1
        self.refuse(Refused(408, "the request did not come in time"))

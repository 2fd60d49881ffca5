"""Requests that are none: broken heads, wrong lengths, broken KServe, images that are none, bombs. The tests send some of them too."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator


def head(length: int | str, path: str = "/predict", method: str = "POST", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def with_body(body: bytes, path: str = "/predict") -> bytes:
    return head(len(body), path) + body


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims to be that large, its pixels zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", row)
        + chunk(b"IEND", b"")
    )


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def broken_head(rng: random.Random, valid: list[bytes]) -> bytes:
    """Cut, change or repeat bytes of a head; the request stays whole in length or not."""
    raw = bytearray(rng.choice(valid))
    end = raw.index(b"\r\n\r\n")
    for _ in range(rng.randint(1, 8)):
        raw[rng.randrange(end)] = rng.randrange(256)
    return bytes(raw[: rng.randint(1, len(raw))]) if rng.random() < 0.5 else bytes(raw)


def noise(rng: random.Random, valid: list[bytes]) -> bytes:
    return rng.randbytes(rng.randint(1, 2000))


def wrong_length(rng: random.Random, valid: list[bytes]) -> bytes:
    length = rng.choice(["-1", "1e9", "99999999999999999999", "0x10", "", "7, 8", "17000000", "5\r\nContent-Length: 6", " 5 5"])
    return head(length) + body_of(rng.choice(valid))


def other_head(rng: random.Random, valid: list[bytes]) -> bytes:
    return rng.choice(
        [
            head(0, "/predict", "DELETE"),
            head(3, "/nowhere") + b"abc",
            head(0, "/" + "a" * 20_000),
            b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            head(3, more="X: " + "y" * 20_000 + "\r\n") + b"abc",
            head(3, more="Bad Name: 1\r\n") + b"abc",
            head(3, more="X: a\x00b\r\n") + b"abc",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
    )


def broken_image(rng: random.Random, valid: list[bytes]) -> bytes:
    """Cut or change an image that was one."""
    image = bytearray(body_of(rng.choice(valid)))
    if rng.random() < 0.5:
        return with_body(bytes(image[: rng.randrange(len(image))]))
    for _ in range(rng.randint(1, 20)):
        image[rng.randrange(min(len(image), 64))] = rng.randrange(256)
    return with_body(bytes(image))


def no_image(rng: random.Random, valid: list[bytes]) -> bytes:
    start = rng.choice([b"", b"GIF89a", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP", b"II*\0", b"BM", b"P6 4 4 255 ", b"%PDF", b"<svg"])
    return with_body(start + rng.randbytes(rng.randint(0, 500)))


def large_image(rng: random.Random, valid: list[bytes]) -> bytes:
    return with_body(bomb(rng.randint(20_000, 2**31 - 1), rng.randint(20_000, 2**31 - 1)))


def broken_inference(rng: random.Random, valid: list[bytes]) -> bytes:
    """A KServe request with one thing wrong."""
    good = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": [0] * 48}
    changed = rng.choice(
        [
            {"shape": [1, 4, 4]},
            {"shape": [1, 4, 4, -3]},
            {"shape": [1, 2**31, 2**31, 3]},
            {"shape": [1000, 4, 4, 3]},
            {"shape": "4"},
            {"shape": [True, 4, 4, 3]},
            {"datatype": "FP32"},
            {"name": "x"},
            {"data": [0] * 47},
            {"data": [256] * 48},
            {"data": [-1] * 48},
            {"data": [0.5] * 48},
            {"data": [[0], [0, 1]]},
            {"data": "text"},
            {"data": None},
            {"data": [10**400] * 48},
            {"parameters": {"binary_data_size": 48}},
        ]
    )
    texts = [
        json.dumps({"inputs": [good | changed]}).encode(),
        json.dumps({"inputs": []}).encode(),
        json.dumps({"inputs": [good], "outputs": [{"name": "nothing"}]}).encode(),
        json.dumps([1, 2, 3]).encode(),
        b"[" * 50_000,
        b'{"inputs": [',
        rng.randbytes(300),
    ]
    return with_body(rng.choice(texts), "/v2/models/MODEL/infer")


KINDS: tuple[Callable[[random.Random, list[bytes]], bytes], ...] = (
    broken_head,
    noise,
    wrong_length,
    other_head,
    broken_image,
    no_image,
    large_image,
    broken_inference,
)


def requests(valid: list[bytes], count: int, seed: int, model: str = "cifar") -> Iterator[bytes]:
    """Yield malformed requests of all kinds in turn, made from valid ones."""
    rng = random.Random(seed)
    for index in range(count):
        yield KINDS[index % len(KINDS)](rng, valid).replace(b"/MODEL/", f"/{model}/".encode())

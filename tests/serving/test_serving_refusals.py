"""What a server refuses, and that it goes on: malformed requests, images that are none, too much, too slow."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import malformed
import numpy as np
import pytest
from running import ask, frozen, pids, png, raw, running, wait_for
from target_nets import images

from convsmith.errors import ResourceError
from convsmith.serving import Limits, Server

GOOD = png(images(1)[0])


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (head("POST /predict", "Host: x"), 400, "the request line is not METHOD /PATH HTTP/1.1"),
        (head("GET / HTTP/2.0", "Host: x"), 505, "the protocol is not HTTP/1.1"),
        (head("GET / HTTP/1.1"), 400, "a request of HTTP/1.1 has a Host"),
        (head("GET / HTTP/1.1", "Host: x", "Host: y"), 400, "there are two fields host"),
        (head("GET / HTTP/1.1", "Host: x", "No colon"), 400, "a header field is malformed"),
        (head("GET / HTTP/1.1", "Host: x", " folded: 1"), 400, "a header field is malformed"),
        (head("GET / HTTP/1.1", "Host: x", "X: a\nb"), 400, "a header field is malformed"),
        (head("POST /predict HTTP/1.1", "Host: x"), 411, "send a Content-Length"),
        (head("POST /predict HTTP/1.1", "Host: x", "Transfer-Encoding: chunked"), 411, "chunked bodies are not read"),
        (head("POST /predict HTTP/1.1", "Host: x", "Content-Length: -1"), 400, "the Content-Length is not a number of bytes"),
        (head("POST /predict HTTP/1.1", "Host: x", "Content-Length: 5", "Content-Length: 6"), 400, "two fields content-length"),
        (head("POST /predict HTTP/1.1", "Host: x", "Content-Length: 200001"), 413, "the body has 200,001 bytes; at most 200,000 are taken"),
        (head("GET /" + "a" * 20_000 + " HTTP/1.1", "Host: x"), 431, "the head is longer than 16,384 bytes"),
    ],
)
def test_a_head_that_cannot_be_ends_the_connection(server: Server, content: bytes, status: int, said: str) -> None:
    first, _, body = raw(server, content, end=False).partition(b"\r\n\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ".encode()) and b"Connection: close" in first
    assert said in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the file is empty"),
        (b"hello", 400, "it is text, not an image"),
        (GOOD[: len(GOOD) // 2], 400, "ends early or is damaged"),
        (malformed.bomb(60_000, 60_000), 413, "60000 x 60000 pixels are more than the limit of 1,000,000"),
        (malformed.bomb(1_001, 1_000), 413, "1001 x 1000 pixels are more than the limit"),
    ],
)
def test_an_image_that_cannot_be_read_says_why(server: Server, body: bytes, status: int, said: str) -> None:
    found = ask(server, "POST", "/predict", body, {"Content-Length": str(len(body))})
    assert found[0] == status and said in found[1]["error"]


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"name": "x"}, 400, "give one input, 'image' of UINT8 or 'encoded' of BYTES"),
        ({"datatype": "FP32"}, 400, "give one input"),
        ({"shape": [1, 4, 4]}, 400, "the shape of 'image' has 4 whole numbers above 0"),
        ({"shape": [1, 4, 4, True]}, 400, "whole numbers above 0"),
        ({"shape": [9, 4, 4, 3]}, 413, "9 images in one request; at most 8 are taken"),
        ({"shape": [1, 4, 4, 4]}, 400, "1 or 3 channels"),
        ({"shape": [1, 100_000, 100_000, 3]}, 413, "1,000,000 pixels at most"),
        ({"data": [0] * 47}, 400, "data are not 48 whole numbers from 0 to 255"),
        ({"data": [0] * 47 + [256]}, 400, "data are not 48 whole numbers"),
        ({"data": [0.5] * 48}, 400, "data are not 48 whole numbers"),
        ({"data": [[1], [1, 2]]}, 400, "data are not 48 whole numbers"),
        ({"data": [10**400] * 48}, 400, "data are not 48 whole numbers"),
        ({"parameters": {"binary_data_size": 48}}, 400, "binary_data_size is 48, and 0 bytes follow the JSON"),
        ({"name": "encoded", "datatype": "BYTES", "shape": [1], "data": ["?"]}, 400, "data are not base64"),
        ({"name": "encoded", "datatype": "BYTES", "shape": [2], "data": [""]}, 400, "data are not 2 texts"),
    ],
)
def test_kserve_requests_that_cannot_be(server: Server, changed: dict, status: int, said: str) -> None:
    given = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": [0] * 48} | changed
    found = ask(server, "POST", "/v2/models/net/infer", json.dumps({"inputs": [given]}).encode())
    assert found[0] == status and said in found[1]["error"]


def test_a_thousand_malformed_requests_disturb_nobody(server: Server) -> None:
    before = pids(server)
    image = malformed.with_body(GOOD)
    wire = list(malformed.requests([image], 1000, seed=1, model="net"))
    with ThreadPoolExecutor(8) as pool:
        codes = [found[9:12] for found in pool.map(lambda content: raw(server, content), wire)]
    # a byte changed in an image or in the value of a header may leave a request that is one; ends before a whole head are closed
    assert set(codes) <= {b"200", b"400", b"404", b"405", b"408", b"411", b"413", b"431", b"505", b""}
    assert sum(code[:1] == b"4" for code in codes) > 600
    assert pids(server) == before and server.metrics.events["worker died"] == 0
    assert ask(server, "POST", "/predict", GOOD)[0] == 200


def test_slow_clients_are_told_and_closed(program: Path) -> None:
    limits = Limits(head_s=0.5, idle_s=0.6, least_bytes_per_s=1e6)
    with running(program, limits=limits) as server:
        began = time.monotonic()
        with ThreadPoolExecutor(3) as pool:
            slow = pool.submit(raw, server, b"POST /predict HTTP/1.1\r\nHo", end=False)
            unfinished = pool.submit(raw, server, malformed.head(1000) + b"abc", end=False)
            silent = pool.submit(raw, server, b"", end=False)
            assert slow.result().startswith(b"HTTP/1.1 408 Request Timeout") and unfinished.result().startswith(b"HTTP/1.1 408 ")
            assert silent.result() == b""
        assert 0.5 <= time.monotonic() - began < 5 and server.metrics.events["slow client"] == 2
        kept = raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", end=False)  # an idle connection ends without a word
        assert kept.count(b"HTTP/1.1") == 1 and kept.endswith(b'{"live":true}')


def test_a_client_that_never_reads_is_cut_off(program: Path) -> None:
    with running(program, limits=Limits(write_s=0.5)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            with pytest.raises((ConnectionError, TimeoutError)):
                for _ in range(200_000):
                    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        wait_for(lambda: not server.connections)
        assert ask(server, "GET", "/health")[0] == 200


def test_too_many_connections_and_too_long_a_queue_are_told_so(program: Path) -> None:
    with running(program, limits=Limits(connections=2, waiting=1, answer_s=20)) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        wait_for(lambda: len(server.connections) == 2)
        assert b"too many clients are connected" in raw(server, b"")
        for client in held:
            client.close()
        wait_for(lambda: not server.connections)
        with frozen(server), ThreadPoolExecutor(2) as pool:
            posted = malformed.with_body(GOOD)[:-1] + GOOD[-1:]
            waiting = [pool.submit(raw, server, posted) for _ in range(1)]
            wait_for(lambda: any(worker.jobs for worker in server.pool.workers))
            waiting.append(pool.submit(raw, server, posted))
            wait_for(lambda: len(server.pool.waiting) == 1)
            server.limits.__dict__["connections"] = 10
            status, found, headers = ask(server, "POST", "/predict", GOOD)
            assert status == 503 and "too many requests are waiting" in found["error"] and headers["Retry-After"] == "1"
            import os
            import signal

            for pid in pids(server):
                os.kill(pid, signal.SIGCONT)
            assert all(future.result().startswith(b"HTTP/1.1 200") for future in waiting)


def test_a_file_that_cannot_be_opened_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "bad.program").write_bytes(b"no program")
    with pytest.raises(ResourceError, match=r"no worker came up: .*bad\.program is not a compiled program"):
        with running(tmp_path / "bad.program"):
            pass


def test_a_port_that_is_taken_says_so(program: Path) -> None:
    import asyncio

    from convsmith.serving import Service

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*; choose another --port"):
            asyncio.run(Server(Service(program, "net", port=port)).run())


def test_grey_and_rgb_of_one_batch(server: Server) -> None:
    grey = np.full((30, 30), 99, np.uint8)
    assert ask(server, "POST", "/predict", png(grey))[1] == ask(server, "POST", "/predict", png(grey[:, :, None].repeat(3, 2)))[1]

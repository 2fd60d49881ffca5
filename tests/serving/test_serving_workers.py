"""Workers that are killed, that hang, and a server that is asked to stop: no accepted request goes without an answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import ask, frozen, pids, png, running, wait_for
from target_nets import images

from convsmith.serving import Batching, Limits

GOOD = png(images(1)[0])


def test_kill_9_under_load_loses_no_request(program: Path) -> None:
    with running(program, workers=2) as server, ThreadPoolExecutor(8) as pool:
        expected = ask(server, "POST", "/predict", GOOD)[1]
        ending = threading.Event()

        def client() -> list[tuple[int, object]]:
            found = []
            while not ending.is_set():
                found.append(ask(server, "POST", "/predict", GOOD)[:2])
            return found

        clients = [pool.submit(client) for _ in range(6)]
        killed = 0
        for _ in range(4):
            wait_for(lambda: server.pool.ready == 2 and any(worker.jobs for worker in server.pool.workers))
            busy = next((worker for worker in server.pool.workers if worker.jobs), server.pool.workers[0])
            os.kill(busy.process.pid, signal.SIGKILL)
            killed += 1
            wait_for(lambda n=killed: server.metrics.events["worker died"] >= n)
        ending.set()
        answers = [answer for future in clients for answer in future.result()]
        wait_for(lambda: server.pool.ready == 2)
        assert ask(server, "POST", "/predict", GOOD)[:2] == (200, expected)
    codes = Counter(code for code, _ in answers)
    assert set(codes) <= {200, 503} and codes[200] > 50
    assert all(found == expected for code, found in answers if code == 200)


def test_a_request_on_a_dead_worker_is_tried_once_more_and_then_given_up(program: Path) -> None:
    with running(program, workers=2, limits=Limits(answer_s=30)) as server:
        wait_for(lambda: server.pool.ready == 2)
        for deaths, status in ((1, 200), (2, 503)):
            wait_for(lambda: server.pool.ready == 2)
            with frozen(server) as stopped, ThreadPoolExecutor(1) as pool:
                answer = pool.submit(ask, server, "POST", "/predict", GOOD)
                for _ in range(deaths):
                    wait_for(lambda: any(worker.jobs for worker in server.pool.workers))
                    pid = next(worker.process.pid for worker in server.pool.workers if worker.jobs)
                    os.kill(pid, signal.SIGKILL)
                    wait_for(lambda pid=pid: pid not in pids(server))
                for pid in set(stopped) & set(pids(server)):
                    os.kill(pid, signal.SIGCONT)
                found = answer.result()
            assert found[0] == status
        assert "the worker died on this request, and another one too" in found[1]["error"] and found[2]["Retry-After"] == "1"
        assert server.metrics.events["retried"] == 2 and server.metrics.events["lost twice"] == 1


def test_a_worker_that_hangs_is_replaced_and_its_request_told(program: Path) -> None:
    with running(program, limits=Limits(answer_s=0.5)) as server:
        with frozen(server) as stopped, ThreadPoolExecutor(2) as pool:
            began = time.monotonic()
            first = pool.submit(ask, server, "POST", "/predict", GOOD)
            wait_for(lambda: server.pool.workers and server.pool.workers[0].jobs)
            second = pool.submit(ask, server, "POST", "/predict", GOOD)
            assert first.result()[0] == 504 and "took longer than 0.5 s" in first.result()[1]["error"]
            assert second.result()[0] in (200, 503) and 0.4 < time.monotonic() - began < 10
        wait_for(lambda: pids(server) and pids(server) != stopped)
        assert ask(server, "POST", "/predict", GOOD)[0] == 200


def test_an_idle_worker_waits_for_a_batch_as_long_as_it_was_told(program: Path) -> None:
    with running(program, batching=Batching(most=3, wait_s=0.3)) as server, ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        assert ask(server, "POST", "/predict", GOOD)[0] == 200 and time.monotonic() - began >= 0.3
        began = time.monotonic()
        together = [pool.submit(ask, server, "POST", "/predict", GOOD) for _ in range(3)]
        assert [future.result()[0] for future in together] == [200] * 3 and time.monotonic() - began < 0.3
    assert server.metrics.batches.counts[:3] == [1, 0, 1]  # one of one, one of three (upper bounds 1, 2, 4)


def test_a_server_that_is_stopped_answers_what_it_accepted(program: Path) -> None:
    with running(program) as server, ThreadPoolExecutor(3) as pool:
        with frozen(server):
            waiting = [pool.submit(ask, server, "POST", "/predict", GOOD) for _ in range(3)]
            wait_for(lambda: len(server.pool.waiting) == 2)
            server.stop()
            wait_for(lambda: server.stopping)
        assert [future.result()[0] for future in waiting] == [200] * 3

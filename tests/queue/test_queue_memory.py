"""A job whose memory runs out: its process ends by itself and says what to do."""

from __future__ import annotations

from pathlib import Path

from waiting import begin, keeper, put

from convsmith.queue import job


def test_a_job_that_asks_for_more_memory_than_there_is_says_what_to_do(tmp_path: Path) -> None:
    """The job's own process, limited to what it has and 200 MB: a real refusal of the kernel, told as every error is."""
    code = """
import resource, sys
from convsmith import jobs
from convsmith.cli import queued
from convsmith.jobs import verbs
check = verbs.find("check").module
check.run = lambda config, record: bytearray(1 << 32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
sys.exit(queued.main())
"""
    folder = put(tmp_path)
    assert begin(keeper(code)(folder)).wait(timeout=120) == 0
    found = job.from_folder(folder)
    assert (found.status, found.message) == (
        "failed",
        "the memory ran out; use a smaller batch (--batch), smaller images (--size) or fewer --workers",
    )

"""A study in a SQLite file, and in a PostgreSQL server of the tests' own where one is installed: both keep the same promises."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PLACES = (os.environ.get("PATH", ""), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))
INITDB = shutil.which("initdb", path=os.pathsep.join(PLACES))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL server that lives as long as the tests, without a database."""
    if INITDB is None or importlib.util.find_spec("psycopg2") is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and psycopg2 (pip install psycopg2-binary)")
    with tempfile.TemporaryDirectory() as folder:
        # it refuses to run as root; its packages make a user for it
        owner = {"user": "postgres"} if os.geteuid() == 0 else {}
        if owner:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        made = [INITDB, "-D", f"{folder}/data", "-U", "me", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **owner)  # type: ignore[call-overload]
        command = [str(Path(INITDB).parent / "postgres"), "-D", f"{folder}/data", "-k", folder, "-p", str(port), "-F"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **owner)  # type: ignore[call-overload]
        try:
            yield f"postgresql://me@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM waits for every client to leave
            process.wait()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.extra)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.sqlite'}"
    address = request.getfixturevalue("server")
    import psycopg2

    name = f"study{time.monotonic_ns()}"
    for _ in range(200):
        try:
            connection = psycopg2.connect(f"{address}/postgres")
            break
        except psycopg2.OperationalError:  # it takes a moment to listen
            time.sleep(0.05)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{address}/{name}"

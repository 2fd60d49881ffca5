"""The studio as a process: its address, TLS, a taken port, and an end that does not wait for viewers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsmith import runs
from convsmith.errors import ResourceError, UsageError
from convsmith.studio.serving import first, listen
from convsmith.studio.settings import Settings

#: A machine under load is slow, not wrong.
PATIENCE_S = 120.0


@contextmanager
def served(root: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command and give the process and the address it prints."""
    command = [sys.executable, "-m", "convsmith.cli", "studio", "--port", "0", *flags]
    process = subprocess.Popen(command, cwd=root.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next((line.split()[1] for line in process.stdout if line.startswith("open ")), "")
        assert address, process.stderr.read() if process.stderr else ""
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_the_printed_address_opens_on_the_run_and_ctrl_c_ends_at_once(root: Path) -> None:
    with served(root, "second") as (process, address):
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        page = opener.open(address, timeout=PATIENCE_S)
        assert page.url.endswith("/runs/second") and b"<h1" in page.read()
        record = runs.create(root / "live", "train", {"data": "digits"}, data="digits")
        record.event("epoch", epoch=1.0, loss=0.5)
        watching = opener.open(page.url.replace("/runs/second", "/api/runs/live/events"), timeout=PATIENCE_S)
        assert watching.readline() == b"event: event\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) in (0, 130)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_it_speaks_tls(root: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *made, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with served(root, "--certificate", str(certificate), "--key", str(key)) as (_, address):
        assert address.startswith("https://127.0.0.1:")
        trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(certificate)))
        entered = urllib.request.build_opener(trusting, NoRedirect()).open(address, timeout=PATIENCE_S)
        assert entered.status == 303 and "Secure" in entered.headers["set-cookie"]


class NoRedirect(urllib.request.HTTPErrorProcessor):
    """Leaves an answer that leads elsewhere as it is."""

    def http_response(self, request: urllib.request.Request, response: object) -> object:
        return response

    https_response = http_response


def test_a_port_that_is_taken_and_an_address_that_is_none_are_told(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use; give another --port"):
            listen(Settings(port=port))
    with pytest.raises(UsageError, match="is no address"):
        listen(Settings(host="no such host", encryption=False, port=0))
    with pytest.raises(UsageError, match="there is no run 'absent'"):
        first(root, Settings(run="absent"))
    assert first(root, Settings(run="last")) == "&next=%2Fruns%2Fsecond" and first(root, Settings()) == ""


FULL = """
import io, os, sys, zipfile
from pathlib import Path
from starlette.testclient import TestClient
from convsmith import studio
from convsmith.studio.api import uploads

uploads.SPARED_BYTES = 0  # otherwise nothing is even begun on so small a disk
root = Path(sys.argv[1])
made = studio.app(root)
with TestClient(made, base_url="http://127.0.0.1:8420", headers={"authorization": f"Bearer {made.state.studio.entry.token}"}) as client:
    client.put("/api/runs/kept/notes", json={"title": "before", "version": 0}).raise_for_status()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/1.png", bytes(4 << 20))
    upload = client.post("/api/uploads").json()["upload"]
    answer = client.put(f"/api/uploads/{upload}/archive", content=packed.getvalue())
    print(answer.status_code, answer.json()["error"]["message"])
    client.delete(f"/api/uploads/{upload}").raise_for_status()
    ballast = os.open(root / "ballast", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(ballast, bytes(4096)):
            pass
    except OSError:
        os.close(ballast)
    answer = client.put("/api/runs/kept/notes", json={"title": "lost", "version": 1})
    print(answer.status_code, answer.json()["error"]["message"])
    answer = client.post("/api/jobs", json={"verb": "check", "typed": {"data": "digits"}})
    print(answer.status_code, answer.json()["error"]["message"])
    print(client.get("/api/runs/kept/notes").json()["title"], client.get("/").status_code, client.get("/runs/kept").status_code)
    (root / "ballast").unlink()
    print(client.put("/api/runs/kept/notes", json={"title": "after", "version": 1}).json()["title"])
    print(client.get("/api/jobs").json())
"""
PRIVATE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MOUNTED = 'mount -t tmpfs -o size=2m none "$1" && cp -r "$2" "$1/kept" && exec "$3" -c "$4" "$1"'


def can_mount() -> bool:
    """Whether a process of ours may have disks of its own."""
    words = [*PRIVATE, 'mount -t tmpfs -o size=1m none "$1"', "sh", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_on_a_disk_that_is_really_full_nothing_is_lost_and_all_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    words = [*PRIVATE, MOUNTED, "sh", str(tmp_path / "disk"), str(root / "first"), sys.executable, FULL]
    said = subprocess.run(words, cwd=root.parent, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    upload, noted, started, *others = said.stdout.splitlines()
    full = "the disk is full; free some space or choose another folder with --out"
    assert upload.startswith("507 cannot write ") and upload.endswith(full)
    assert noted.startswith("507 ") and full in noted and started.startswith("507 ")
    assert others == ["before 200 200", "after", "{'jobs': []}"]


def test_the_application_loads_no_torch() -> None:
    code = "import convsmith.studio.application, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ).stdout == "False\n"

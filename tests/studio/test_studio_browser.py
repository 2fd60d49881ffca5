"""A new user in a real browser: from images on the desktop to a file whose prediction agrees, with a server that is killed on the way.

Pages are pictured into the folder that CONVSMITH_PICTURES names (`make pictures`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convsmith
from convsmith import runs

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the path: apt-get install chromium"),
]

#: What a page may take on a machine that does other things too.
PATIENCE_MS = 180_000
EPOCHS = 150


class Served:
    """A studio as a process that can be killed and started again at the same address."""

    def __init__(self, home: Path) -> None:
        self.home, self.runs, self.port = home, home / "runs", 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        environment["CONVSMITH_RUNS"] = str(self.runs)
        command = [sys.executable, "-m", "convsmith.cli", "studio", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"open (http://\S+:(\d+)/\S+)", line)
            if found:
                self.port = int(found[2])
                self._until_it_answers()
                return found[1]
        raise AssertionError("the studio did not start")

    def _until_it_answers(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def draw_shapes(folder: Path) -> dict[str, Path]:
    """Write three classes of 16x16 shapes, every tenth under a wrong name so that there are mistakes; return one right image of each."""
    generator = np.random.default_rng(0)
    names, right = ("bar", "cross", "ring"), {}
    for number in range(180):
        shape = number % 3
        pixels = generator.integers(0, 90, (16, 16), dtype=np.uint8)
        y, x = generator.integers(4, 12, 2)
        rows, columns = np.ogrid[:16, :16]
        distance = np.hypot(rows - y, columns - x)
        marks = (abs(rows - y) < 2, (abs(rows - y) < 1) | (abs(columns - x) < 1), abs(distance - 3.5) < 1)
        pixels[np.broadcast_to(marks[shape], (16, 16))] = generator.integers(150, 256)
        wrong = number % 10 == 0
        path = folder / names[(shape + wrong) % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        if not wrong:
            right[names[shape]] = path
    return right


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    made = Served(home)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.communicate(timeout=10)
    worker = home / "runs" / ".queue" / "worker.json"
    if worker.exists():
        os.kill(int(re.findall(r'"pid": (\d+)', worker.read_text())[0]), signal.SIGTERM)
    for noted in (home / "runs" / ".queue").glob("jobs/*/process.json"):
        if not (noted.parent / "end.json").exists():
            (noted.parent / "abort").touch()


@pytest.fixture
def page() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        context = browser.new_context(viewport={"width": 1180, "height": 820}, accept_downloads=True)
        context.set_default_timeout(PATIENCE_MS)
        opened = context.new_page()
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("console", lambda told: problems.append(told.text) if "Content Security Policy" in told.text else None)
        yield opened
        browser.close()
        assert problems == []


def picture(page: Any, name: str) -> None:
    """Keep a picture of the page, where pictures are wanted."""
    folder = os.environ.get("CONVSMITH_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(800)  # charts are drawn a moment after their page
        path = Path(folder) / f"{name}.png"
        page.screenshot(path=path)
        Image.open(path).quantize(64).save(path, optimize=True)


def status_becomes(page: Any, word: str) -> None:
    page.wait_for_selector(f'#run[data-status="{word}"]')


def until(page: Any, told: Callable[[], object]) -> None:
    """Wait until something is so; the page's own policy forbids Playwright's way of waiting inside it."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not told():
        assert time.monotonic() < end, "it did not become so"
        page.wait_for_timeout(50)


def epochs_shown(page: Any) -> int:
    return int(page.locator("#events th", has_text=re.compile("^epoch$")).count())


def start(page: Any, **settings: object) -> None:
    """Fill in a form, start the job, and wait for the page it leads to."""
    for details in page.locator("form#job details").all():
        details.evaluate("place => place.open = true")
    for name, value in settings.items():
        page.fill(f'form#job [name="{name}"]', str(value))
    page.click('form#job button[type="submit"]')
    until(page, lambda: re.search(r"/(runs|jobs)/", page.url))


def to_run(page: Any) -> str:
    page.wait_for_selector("#run")
    return str(page.locator("#run").get_attribute("data-name"))


def sends_checks_and_previews(page: Any, address: str, folder: Path, tmp_path: Path) -> str:
    page.goto(address)
    assert "There is no run in" in page.inner_text("main")
    page.click("text=Take my images")
    archive = tmp_path / "shapes.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    page.fill("#name", "as zip")
    page.set_input_files("#zip", archive)
    page.wait_for_selector("#ready:not([hidden])")
    assert page.inner_text("#figures").split()[1:] and "180" in page.inner_text("#figures")
    page.goto(address.split("/login")[0] + "/images")
    page.fill("#name", "shapes")
    page.set_input_files("#folder", folder)
    page.wait_for_selector("#ready:not([hidden])")
    assert re.search(r"Images\s+180\s+.*Classes\s+3", page.inner_text("#figures"), re.S)
    page.click("#check")
    page.wait_for_selector("#findings *")
    page.click("#augment button[type=submit]")
    page.wait_for_selector("#sheet:not([hidden])")
    page.locator("#augmentation").scroll_into_view_if_needed()
    picture(page, "augmentation")
    return str(page.locator("#images").get_attribute("data-source"))


def trains_through_a_killed_server(page: Any, served: Served) -> str:
    page.click("text=Train only")
    start(page, epochs=EPOCHS, threads=1, batch=16, **{"training.checkpoint_s": 1})
    name = to_run(page)
    until(page, lambda: epochs_shown(page) >= 2)
    before = epochs_shown(page)
    until(page, lambda: epochs_shown(page) > before + 1)  # without the page being loaded again
    picture(page, "run-live")
    served.kill()
    events = served.runs / name / "events.jsonl"
    lines = events.read_text().count("epoch")
    until(page, lambda: events.read_text().count("epoch") > lines)  # the training did not end with the server
    address = served.start()
    page.goto(address)
    page.goto(f"{address.split('/login')[0]}/runs/{name}")
    assert epochs_shown(page) >= before
    page.click('button[data-act="abort"]')
    status_becomes(page, "interrupted")
    done = [event["epoch"] for event in runs.open(served.runs / name).events() if event["kind"] == "epoch"]
    assert done == sorted(set(done)) and 0 < len(done) < EPOCHS
    page.click('button[data-act="resume"]')
    to_run(page)
    status_becomes(page, "finished")
    done = [event["epoch"] for event in runs.open(served.runs / name).events() if event["kind"] == "epoch"]
    assert sorted(set(done)) == [float(number) for number in range(1, EPOCHS + 1)], "no epoch was lost"
    return name


def looks_at_answers(page: Any, image: Path) -> str:
    page.wait_for_selector("#accuracy")
    picture(page, "run")
    assert page.locator("#mistakes figure").count() >= 1
    page.check("#tested-wrong")
    page.wait_for_selector("#tested-images li")
    page.set_input_files("#asked", image)
    page.wait_for_selector("#answered .answer")
    said = page.inner_text("#answered .answer li span")
    page.click("#answered .answer button")
    page.wait_for_selector("#explained-body img")
    assert page.input_value("#explained-class") == said
    picture(page, "explained")
    page.click("#explained button:has-text('Close')")
    return str(said)


def compares(page: Any, served: Served, name: str, address: str) -> None:
    page.click("text=Clone")
    page.wait_for_selector("form#job")
    start(page, epochs=2, seed=1)
    other = to_run(page)
    assert other != name
    status_becomes(page, "finished")
    page.goto(address + "/")
    for run in (name, other):
        page.check(f'input[name="run"][value="{run}"]')
    page.click('[data-each="compare"]')
    page.wait_for_selector(".verdict")
    assert "McNemar" in page.inner_text("main") and "epochs" in page.inner_text("main")
    picture(page, "compare")


def exports(page: Any, name: str, address: str, image: Path, tmp_path: Path) -> str:
    import onnxruntime

    page.goto(f"{address}/runs/{name}")
    page.click('#next a:has-text("Export")')
    start(page)
    page.wait_for_selector(".status.finished")
    page.goto(f"{address}/runs/{name}")
    with page.expect_download() as waiting:
        page.click("text=ONNX file")
    file = tmp_path / "downloaded.onnx"
    waiting.value.save_as(file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(image))[None, :, :, None]  # grey images, as they are
    (scores,) = session.run(session.get_outputs()[0].name.split(), {session.get_inputs()[0].name: pixels})
    classes = runs.open(tmp_path / "home" / "runs" / name).read_json("preprocess.json")["classes"]
    return str(classes[int(np.asarray(scores).reshape(-1).argmax())])


def test_a_new_user_goes_all_the_way(page: Any, served: Served, tmp_path: Path) -> None:
    right = draw_shapes(tmp_path / "desktop" / "shapes")
    address = served.start()
    sends_checks_and_previews(page, address, tmp_path / "desktop" / "shapes", tmp_path)
    name = trains_through_a_killed_server(page, served)
    here = f"http://127.0.0.1:{served.port}"
    said = looks_at_answers(page, right["ring"])
    compares(page, served, name, here)
    assert exports(page, name, here, right["ring"], tmp_path) == said
    page.goto(here + "/jobs")
    picture(page, "jobs")
    assert page.locator(".status.finished").count() >= 3 and page.locator(".status.aborted").count() == 1

"""Every page for those who see little, nothing, or use no mouse: names, landmarks, contrast, the keyboard, small and large windows.

The rules are those of WCAG 2.2 that a script can judge: 1.1.1 and 4.1.2 names, 1.3.1 structure, 1.4.3 contrast of 4.5 (3 for large
text), 1.4.10 no sideways scrolling at 400 pixels, 2.1.1 and 2.4.3 keyboard and its order, 2.4.7 visible focus; and no layout shift.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from convsmith import analysis, runs, studio

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the path: apt-get install chromium"),
]

PAGES = (
    *("/", "/?by=model&text=first", "/?text=nothing-like-that", "/runs/first", "/runs/live", "/images", "/images?source=digits"),
    *("/networks", "/networks?name=lenet5", "/new", "/new/train", "/new/sweep", "/compare", "/compare?a=first&b=second", "/jobs"),
    *("/jobs/1?stay=1", "/sweeps", "/sweeps/swept", "/machine", "/api", "/nothing"),
)
#: When a page that goes on after it was loaded stands still.
CHART = ".js-plotly-plot .modebar-container"
SETTLED = {"/images?source=": "#ready:not([hidden]) #shown:not(:empty)", "/networks?name": "svg.network", "/machine": "#machine dd"}
SETTLED |= dict.fromkeys(("/runs/", "/new/train", "/compare?"), CHART)
#: Layout that moves after it was painted, as browsers score it; 0.1 passes as good, and here nothing should move.
MOST_SHIFT = 0.02
#: So many steps of the tab key are taken on each page.
MOST_TABS = 30

AUDIT = (Path(__file__).parent / "audit.js").read_text()


def write_tested(root: Path, name: str, make_run: Callable[..., runs.Record]) -> None:
    """Write a run that was tested on the bundled digits: evaluation, predictions with mistakes, and a frontier of smaller networks."""
    from convsmith import data

    record = make_run(root, name, epochs=12, parameters=160_210, seconds=31.5)
    test = data.open("digits").test
    labels = np.asarray(test.labels)
    logits = np.random.default_rng(len(name)).normal(0, 1.5, (len(labels), 10)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 4
    classes = [str(digit) for digit in range(10)]
    record.write_json("evaluation.json", analysis.evaluate(logits, labels, classes))
    record.write_json("preprocess.json", data.Preprocess(8, 8, 1, mean=(0.3,), std=(0.3,)).to_dict() | {"classes": classes})
    record.write_json("dataset.json", {"open": {"data": "digits"}, "classes": classes})
    record.write_predictions(logits, labels, [test.name(index) for index in range(len(labels))])
    point = {"ms": 0.2, "file_bytes": 5000, "frontier": True, "folder": "shrink/int8", "accuracy": 0.97, "test": None}
    points = [point | {"name": "int8"}, point | {"name": "float32", "ms": 0.4}]
    record.write_json("shrink.json", {"points": points, "chosen": "int8", "max_drop": 0.5, "torch_ms": 1.0})
    (record.folder / "weights.safetensors").write_bytes(b"")


def write_swept(root: Path) -> None:
    """Write a sweep of four trials that has ended."""
    settings = {"verb": "train", "data": "digits", "over": ["learning_rate=0.01,0.1", "batch=32,64"]}
    record = runs.create(root / "swept", "sweep", settings, data="digits")
    spec = {"verb": "train", "settings": {"data": "digits"}, "over": settings["over"], "metric": "val_accuracy", "direction": "maximize"}
    rows = [
        {"trial": number, "state": "finished", "params": {"learning_rate": rate, "batch": batch}, "value": 0.9 + number / 100, "run": None}
        | {"epochs": 3, "seconds": 1.0, "error": None, "figures": {}}
        for number, (rate, batch) in enumerate([(0.01, 32), (0.01, 64), (0.1, 32), (0.1, 64)])
    ]
    found = {"spec": spec | {"sampler": "grid", "trials": 4, "seed": 0, "prune": False}, "rows": rows, "best": rows[-1]}
    record.write_json("sweep.json", found | {"importance": {"learning_rate": 0.7, "batch": 0.3}})
    record.finish("finished", top1=0.93)


@pytest.fixture
def address(root: Path, make_run: Callable[..., runs.Record]) -> Iterator[str]:
    """A studio over a store with one of everything, served by a thread."""
    from convsmith import queue

    shutil.rmtree(root / "first")
    shutil.rmtree(root / "second")
    write_tested(root, "first", make_run)
    write_tested(root, "second", make_run)
    write_swept(root)
    live = runs.create(root / "live", "train", {"data": "digits"}, data="digits")
    for epoch in range(1, 4):
        live.event("epoch", epoch=float(epoch), loss=1 / epoch, val_loss=1 / epoch, accuracy=0.5, val_accuracy=0.6, lr=0.1)
    for _ in range(2):
        queue.submit("train", {"data": "digits"}, root=root)
    queue.abort(2, root=root)
    made = studio.app(root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(made, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.02)
    yield f"http://127.0.0.1:{port}/login?token={made.state.studio.entry.token}"
    made.state.studio.closing = True
    server.should_exit = True
    thread.join(timeout=20)
    made.state.studio.looker.close()


@pytest.fixture
def context() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        made = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        made.set_default_timeout(120_000)
        yield made
        browser.close()


def asked(page: Any, what: str) -> Any:
    """Return what a function of the audit finds."""
    return page.evaluate(f"() => {AUDIT.strip()}.{what}")


def in_window(page: Any, width: int, scheme: str) -> list[str]:
    """Return what is wrong with the page that stands open, in a window of that width and in light or dark."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(60)
    return [f"{width} {scheme}: {one}" for one in asked(page, "contrast()") + asked(page, "sideways()")]


def by_keyboard(page: Any) -> list[str]:
    """Return what the tab key passes over, meets out of order, or focuses without a sign."""
    wanted = asked(page, "wanted()")[:MOST_TABS]
    found, met = [], []
    for _ in wanted:
        page.keyboard.press("Tab")
        told = asked(page, "focused()")
        met.append(told["place"])
        found += [] if told["seen"] else [f"focus cannot be seen: {told['what']}"]
    passed = [place for place in wanted if place not in met]
    found += [f"passed over: {one}" for one in asked(page, f"called({passed})")]
    return found if met == sorted(met) else [*found, f"out of order: {met}"]


def test_every_page_can_be_used_without_eyes_mouse_or_a_wide_window(context: Any, address: str) -> None:
    page, home = context.new_page(), address.split("/login")[0]
    wrong: dict[str, list[str]] = {}
    for place in ("/login", *PAGES):
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(home + place, wait_until="load")
        for selector in (selector for start, selector in SETTLED.items() if place.startswith(start)):
            page.wait_for_selector(selector, state="attached")
        page.wait_for_timeout(150)
        shift = asked(page, "shift()")
        found = asked(page, "structure()") + asked(page, "names()") + by_keyboard(page)
        found += [f"the layout shifts by {shift:.3f}"] if shift > MOST_SHIFT else []
        for width, scheme in ((1280, "light"), (400, "light"), (400, "dark"), (2560, "dark")):
            found += in_window(page, width, scheme)
        if found:
            wrong[place] = found
        if place == "/login":
            page.goto(address)
    assert not wrong, json.dumps(wrong, indent=1)


def test_no_chart_offers_to_send_itself_elsewhere(context: Any, address: str) -> None:
    page = context.new_page()
    page.goto(address)
    page.goto(address.split("/login")[0] + "/runs/first")
    page.wait_for_selector(CHART, state="attached")
    titles = page.evaluate("() => [...document.querySelectorAll('.modebar-btn')].map((node) => node.dataset.title)")
    assert "Zoom in" in titles and not [title for title in titles if re.search("share|cloud|studio", title, re.I)]


def test_the_first_tab_leads_past_the_menu(context: Any, address: str) -> None:
    page = context.new_page()
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    page.keyboard.press("Tab")
    assert page.evaluate("() => Boolean(document.activeElement.closest('main'))")

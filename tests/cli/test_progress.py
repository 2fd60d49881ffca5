"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

from convsmith.cli.progress import Display
from convsmith.runs import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drive(display: Display) -> None:
    with display:
        display.hear("decision", {"stage": "model", "choice": "smallnet", "reason": "small\nimages"})
        display.hear("decision", {"stage": "input", "choice": "8x8", "reason": ""})
        display.hear("quote", {"seconds": 200.0})
        display.hear("epoch", {"epoch": 1})
        for step in range(1, 11):
            display.show(Progress("train", step, 10, {"loss": 0.5, "epoch": 1}))


def test_elsewhere_it_is_a_few_plain_lines() -> None:
    stream = io.StringIO()
    drive(Display(stream=stream))
    assert stream.getvalue() == "model: smallnet (small\\nimages)\ninput: 8x8\nquote: about 3 min 20 s\n"


def test_a_long_stage_says_that_it_is_done() -> None:
    stream = io.StringIO()
    display = Display(stream=stream)
    display.show(Progress("train", 1, 10))
    display.begun["train"] -= 75
    display.show(Progress("train", 10, 10))
    display.show(Progress("train", 10, 10))
    assert stream.getvalue() == "train: done in 1 min 15 s\n"


def test_a_terminal_gets_a_bar_with_the_time_left() -> None:
    stream = Terminal()
    drive(Display(stream=stream))
    assert "100%" in stream.getvalue() and "left" in stream.getvalue() and "loss 0.5" in stream.getvalue()


def test_quiet_is_silent() -> None:
    stream = Terminal()
    drive(Display(stream=stream, quiet=True))
    assert stream.getvalue() == ""

"""Plain text tables and numbers."""

from __future__ import annotations

import pytest

from convsmith.jobs import text
from convsmith.jobs.duration import format_duration


def test_columns_line_up_and_numbers_go_right() -> None:
    found = text.table(["name", "n"], [["a", 5], ["数据", 12345], ["new\nline", None]])
    assert found.splitlines() == ["name           n", "---------  -----", "a              5", "数据       12345", "new\\nline      -"]


def test_no_rows_leave_the_headers() -> None:
    assert text.table(["a", "b"], []) == "a  b\n-  -"


def test_what_would_move_the_cursor_is_escaped() -> None:
    assert text.printable("a\x1b[31m\r\n\u202e") == "a\\x1b[31m\\r\\n\\u202e"
    assert text.printable("\udce9") == "\\udce9"


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5e12, "5.0 TB")])
def test_sizes(count: float, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.84, "0.8 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_shown(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown

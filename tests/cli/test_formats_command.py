"""``convsmith precision formats``, and the verb it stands below."""

from __future__ import annotations

import json
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from convsmith import formats
from convsmith.formats.number_line import number_line

Call = Callable[..., tuple[int, str, str]]


def test_the_catalogue_is_listed(call: Call) -> None:
    code, out, err = call("precision", "formats")
    assert (code, err) == (0, "")
    for name, fmt in formats.CATALOGUE.items():
        row = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert number_line(fmt).rstrip() in row and formats.SOURCES[name][:20] in row


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_the_catalogue_fits_the_terminal(call: Call, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = call("precision", "formats")
    lines = out.splitlines()
    assert code == 0 and max(map(len, lines)) <= columns
    assert ("source" in lines[0]) == (columns == 160) and ("range" in lines[0]) == (columns > 80)
    for name, fmt in formats.CATALOGUE.items():
        assert number_line(fmt).rstrip() in next(line for line in lines if line.startswith(f"{name} "))
    code, out, _ = call("precision", "formats", "e3m2")
    assert code == 0 and max(map(len, out.splitlines())) <= max(columns, 80)


def test_the_catalogue_as_json(call: Call) -> None:
    code, out, _ = call("precision", "formats", "--json")
    rows = {row["name"]: row for row in json.loads(out)["result"]}
    assert code == 0 and set(rows) == set(formats.CATALOGUE)
    info = ml_dtypes.finfo(ml_dtypes.float8_e4m3fn)
    row = rows["e4m3fn"]
    assert (row["largest"], row["smallest"], row["epsilon"]) == (float(info.max), float(info.smallest_subnormal), float(info.eps))
    assert rows["mxfp4"]["bits"] == 4.25 and "values" not in row


def test_one_format_in_detail(call: Call) -> None:
    code, out, _ = call("precision", "formats", "e2m1")
    assert code == 0 and "All 15 finite values:" in out and "OCP microscaling formats 1.0" in out
    code, out, _ = call("precision", "formats", "fixed<2,1>:symmetric", "--json")
    found = json.loads(out)["result"]
    assert code == 0 and found["values"] == (np.arange(-3, 4) / 2).tolist() and found["source"] is None
    code, out, _ = call("precision", "formats", "fp64")
    assert code == 0 and "float64" in out and "finite values" not in out


@pytest.mark.parametrize("words", [("fp61",), ("fp61", "--json")])
def test_a_format_that_is_not_there(call: Call, words: tuple[str, ...]) -> None:
    code, out, err = call("precision", "formats", *words)
    assert code == 2 and "Unknown number format 'fp61'. Did you mean 'fp64'?" in (err or out)


def test_the_number_line_shows_where_values_lie() -> None:
    # e2m1 holds 0.5, 1, 1.5, 2, 3, 4, 6: one value from 2^-1, two from 1, 2 and 4.
    assert number_line(formats.parse("e2m1")) == "|" + " " * 15 + ".:::" + " " * 14 + "|"
    assert number_line(formats.parse("uint4")) == "|" + " " * 16 + ".:-=" + " " * 13 + "|"
    assert number_line(formats.parse("fp32"))[0] == "<" and number_line(formats.parse("fp32"))[-1] == ">"
    assert number_line(formats.parse("int16"))[17:33] == ".:-=+*#%@@@@@@@ "


def test_the_verb_itself_still_takes_a_run(call: Call) -> None:
    code, out, _ = call("precision", "--help")
    assert code == 0 and "--max-drop" in out and "formats" in out
    code, _, err = call("precision", "no-such-run")
    assert code == 2 and "no-such-run" in err

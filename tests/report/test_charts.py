"""The numbers in the pictures: positions follow the data, axes cover it, shares become tints."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from convsmith.report.charts import (
    Curve,
    Option,
    Spread,
    confusion_chart,
    line_chart,
    reliability_chart,
    share_bar,
    spread_chart,
    trade_chart,
)
from convsmith.report.charts.axes import ticks, whole_ticks


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def having(svg: str, name: str, class_: str) -> list[ET.Element]:
    return [element for element in parsed(svg).iter(name) if class_ in element.get("class", "").split()]


def polyline(element: ET.Element) -> list[tuple[float, float]]:
    return [(float(pair.split(",")[0]), float(pair.split(",")[1])) for pair in element.get("points", "").split()]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.953, 0.9981), (0, 2.34), (-3, 7), (0.1, 0.1), (0, 1e-5), (97, 12_345)])
def test_ticks_cover_the_data_with_round_steps(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert 2 <= len(found) <= 12
    step = found[1] - found[0]
    assert all(math.isclose(b - a, step, rel_tol=1e-6) for a, b in itertools.pairwise(found))
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(lead, allowed, rel_tol=1e-6) for allowed in (1, 2, 5))


def test_whole_ticks_are_whole() -> None:
    assert whole_ticks(1, 24) == [5, 10, 15, 20]
    assert whole_ticks(1, 3) == [1, 2, 3]
    assert whole_ticks(0.4, 0.4) == [0.4]


def test_lines_follow_the_data() -> None:
    values = [0.5, 0.25, 0.125, 0.75]
    svg = line_chart([Curve("a", [1, 2, 3, 4], values)], x_label="epoch", y_label="loss", label="told", y_zero=True)
    (line,) = having(svg, "polyline", "line")
    points = polyline(line)
    # straight map: equal steps in x, and height in proportion to the value above zero
    assert [b[0] - a[0] for a, b in itertools.pairwise(points)] == pytest.approx([points[1][0] - points[0][0]] * 3, abs=0.02)
    bottom = max(float(element.get("y1", 0)) for element in having(svg, "line", "grid"))
    heights = [bottom - y for _, y in points]
    assert [height / heights[0] for height in heights] == pytest.approx([value / 0.5 for value in values], abs=1e-3)
    assert parsed(svg).get("aria-label") == "told"


def test_missing_values_are_passed_over() -> None:
    curves = [Curve("a", [1, 2, 3, 4, 5], [1, 2, None, 3, math.nan]), Curve("b", [1], [None])]
    svg = line_chart(curves, x_label="x", y_label="y", label="told")
    assert [len(polyline(line)) for line in having(svg, "polyline", "line")] == [3]
    assert len(having(svg, "circle", "mark")) == 3
    assert line_chart(curves[1:], x_label="x", y_label="y", label="told") == ""


def test_one_epoch_is_a_point() -> None:
    svg = line_chart([Curve("a", [1], [0.5])], x_label="x", y_label="y", label="told")
    assert having(svg, "polyline", "line") == [] and len(having(svg, "circle", "mark")) == 1


def test_trade_marks_the_chosen_point_and_the_limit() -> None:
    options = [Option("float", "e2m1", 4, 0.5), Option("float", "e4m3", 8, 0.9), Option("integer", "int8", 8, 0.95)]
    levels = [("best", 0.96), ("limit", 0.94)]
    svg = trade_chart(options, x_label="bits", y_label="accuracy", label="told", chosen=options[2], levels=levels)
    (ring,) = having(svg, "circle", "ring")
    (square,) = [element for element in parsed(svg).iter("polygon") if element.get("data-name") == "int8"]
    corners = polyline(square)
    assert sum(x for x, _ in corners) / 4 == pytest.approx(float(ring.get("cx", 0)), abs=0.02)
    assert sum(y for _, y in corners) / 4 == pytest.approx(float(ring.get("cy", 0)), abs=0.02)
    best, limit = (float(element.get("y1", 0)) for element in having(svg, "line", "level"))
    assert best < float(ring.get("cy", 0)) < limit  # y grows downwards
    circles = {element.get("data-name"): element for element in having(svg, "circle", "mark")}
    assert float(circles["e2m1"].get("cy", 0)) > float(circles["e4m3"].get("cy", 0)) > limit
    assert float(circles["e2m1"].get("cx", 0)) < float(circles["e4m3"].get("cx", 0)) == pytest.approx(float(ring.get("cx", 0)))


def test_confusion_draws_every_count_once() -> None:
    confusion = [[8, 2, 0], [0, 5, 0], [1, 0, 0]]
    svg = confusion_chart(confusion, ["a", "b", "c"], label="told")
    right, wrong = having(svg, "rect", "right"), having(svg, "rect", "wrong")
    assert len(right) == 2 and len(wrong) == 2
    tints = {element.get("fill-opacity") for element in wrong}
    assert tints == {f"{0.12 + 0.88 * 0.2:.2f}", "1.00"}
    titles = {element.text for element in parsed(svg).iter("title")}
    assert titles == {"a: 8 of 10 right", "a taken for b: 2 of 10", "b: 5 of 5 right", "c taken for a: 1 of 1"}
    # row 2, column 0 lies left of and below row 0, column 1
    places = {element.get("fill-opacity"): (float(element.get("x", 0)), float(element.get("y", 0))) for element in wrong}
    assert places["1.00"][0] < places["0.30"][0] and places["1.00"][1] > places["0.30"][1]


@pytest.mark.parametrize("classes", [2, 10, 37, 100])
def test_confusion_of_any_size(classes: int) -> None:
    confusion = [[10 if row == column else 0 for column in range(classes)] for row in range(classes)]
    svg = confusion_chart(confusion, [f"a rather long name {i}" for i in range(classes)], label="told")
    assert len(having(svg, "rect", "right")) == classes
    counts = [element for element in parsed(svg).iter("text") if element.text == "10"]
    assert len(counts) == (classes if classes <= 40 else 0)


def test_reliability_bars_stand_at_their_accuracy() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": 0.0, "accuracy": 0.0},
        {"low": 0.5, "high": 0.75, "count": 10, "confidence": 0.6, "accuracy": 0.4},
        {"low": 0.75, "high": 1.0, "count": 90, "confidence": 0.9, "accuracy": 0.8},
    ]
    svg = reliability_chart(bins, label="told")
    low, high = having(svg, "rect", "fill")
    assert float(high.get("height", 0)) == pytest.approx(2 * float(low.get("height", 0)), abs=0.02)
    spans = [abs(float(e.get("y1", 0)) - float(e.get("y2", 0))) for e in having(svg, "line", "whisker") if e.get("x1") == e.get("x2")]
    assert spans[0] > 2 * spans[1]  # 10 images tell less than 90
    assert reliability_chart(bins[:1], label="told") == ""


def test_spread_bars_are_in_proportion() -> None:
    svg = spread_chart([Spread("a", 0.9, 1, 1.2), Spread("b", 3.9, 4, 4.4)], x_label="s", label="told", x_format="{:g}".format)
    first, second = (float(element.get("width", 0)) for element in having(svg, "rect", "fill"))
    assert second == pytest.approx(4 * first, abs=0.05)
    assert spread_chart([], x_label="s", label="told", x_format=str) == ""


def test_share_bar_adds_up() -> None:
    widths = [float(element.get("width", 0)) for element in having(share_bar([0.25, 0.5, 0.25], 80), "rect", "fill")]
    assert widths == [20, 40, 20]


def test_chart_text_is_escaped() -> None:
    svg = confusion_chart([[1, 0], [0, 1]], ["<b>", "a&b"], label='"<>"')
    assert "<b>" not in svg and parsed(svg).get("aria-label") == '"<>"'

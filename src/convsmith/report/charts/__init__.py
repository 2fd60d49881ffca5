"""Charts as SVG text: pure functions from numbers to markup, coloured by the page's style sheet."""

from convsmith.report.charts.bars import Spread, reliability_chart, share_bar, spread_chart
from convsmith.report.charts.columns import column_chart, small_histogram
from convsmith.report.charts.drawing import Box, network_drawing
from convsmith.report.charts.lines import Curve, line_chart
from convsmith.report.charts.matrix import confusion_chart
from convsmith.report.charts.parallel import Upright, parallel_chart
from convsmith.report.charts.trade import Option, frontier_chart, trade_chart

__all__ = [
    "Box",
    "Curve",
    "Option",
    "Spread",
    "Upright",
    "column_chart",
    "confusion_chart",
    "frontier_chart",
    "line_chart",
    "network_drawing",
    "parallel_chart",
    "reliability_chart",
    "share_bar",
    "small_histogram",
    "spread_chart",
    "trade_chart",
]

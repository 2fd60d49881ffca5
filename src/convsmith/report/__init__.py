"""The page that tells a run, one self-contained HTML file, and its model card, both made from the files of a run folder."""

from convsmith.report.card import write_card
from convsmith.report.health import render_health
from convsmith.report.mistakes import save_mistakes
from convsmith.report.network import render_network
from convsmith.report.page import render, write

__all__ = ["render", "render_health", "render_network", "save_mistakes", "write", "write_card"]

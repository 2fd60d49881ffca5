"""The page of a network: its drawing, what is told of layers and of an image, pictures, and that it is one file."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from convsmith.report import render_network
from convsmith.report.charts import Box, network_drawing, small_histogram
from convsmith.report.charts.drawing import depths, positions
from convsmith.report.network import boxes
from convsmith.report.pictures import data_uri, heated, sheet


def layer(name: str, op: str, sources: list[str], **more: Any) -> dict[str, Any]:
    plain = {
        "name": name, "op": op, "sources": sources, "output_shape": [1, 8, 6, 6], "macs": 0, "parameters": 0, "weight_bytes": 0,
        "activation_bytes": 1152, "intensity": 0.0, "field": None,
    }  # fmt: skip
    return {**plain, **more}


FIELD = {"size": [3, 3], "stride": [1, 1], "offset": [-1, -1], "axes": [2, 3]}
LAYERS = [
    layer("conv1", "Conv", [], macs=1000, field=FIELD),
    layer("relu1", "Relu", ["conv1"]),
    layer("conv2", "Conv", ["relu1"], macs=1000, field={**FIELD, "size": [5, 5], "offset": [-2, -2]}),
    layer("add", "Add", ["conv2", "relu1"]),
    layer("pool", "MaxPool", ["add"]),
]


def found(layers: list[dict[str, Any]]) -> dict[str, Any]:
    totals = {"parameters": 10, "weight_bytes": 40, "macs": 2000, "peak_activation_bytes": 2304}
    return {"layers": layers, "totals": totals, "batch": 1, "input_shape": [1, 3, 6, 6]}


def test_what_is_fused_belongs_to_the_layer_that_computes_it() -> None:
    fused = [{**one, "fused": one["op"] in ("Relu", "Add"), "measured_s": 1e-6, "share": 0.5, "bound": "memory"} for one in LAYERS]
    drawn = boxes(fused)
    assert [(box.name, box.sources) for box in drawn] == [("conv1", ()), ("conv2", ("conv1",)), ("pool", ("conv2",))]
    assert drawn[0].series == 1 and "50.0\u202f%, bound by memory" in drawn[0].title
    # without a measurement whatever has one source and no work of its own; a sum of two has a box
    assert [box.name for box in boxes(LAYERS)] == ["conv1", "conv2", "add", "pool"]


def test_rows_follow_the_longest_way_and_no_two_boxes_share_a_place() -> None:
    net = [Box("a", (), "a"), Box("b", ("a",), "b"), Box("c", ("a",), "c"), Box("d", ("b",), "d"), Box("e", ("c", "d", "a"), "<&>")]
    rows = depths(net)
    assert rows == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 3}
    places = positions(net, rows)
    assert len(set(places.values())) == 5 and places["b"][1] == places["c"][1] and places["e"][0] == places["a"][0]
    picture = ET.fromstring(str(network_drawing(net, label="net")))
    assert len(picture.findall(".//{*}path") or picture.findall(".//path")) == 6
    assert network_drawing([], label="none") == ""


def seen() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    activation = SimpleNamespace(
        name="conv1", kind="Conv2d", shape=(8, 6, 6), mean=0.25, std=1.0, minimum=-1.0, maximum=2.0, zeros=0.5, silent=3,
        counts=(1, 4, 0, 9), channels=(0, 1), maps=rng.integers(0, 256, (2, 6, 6), np.uint8),
    )  # fmt: skip
    return SimpleNamespace(
        image=rng.integers(0, 256, (6, 6, 3), np.uint8), probabilities=np.array([0.1, 0.7, 0.2], np.float32), target=1,
        heat=np.eye(6, dtype=np.float32), heat_layer="conv2", filters=rng.integers(0, 256, (8, 3, 3, 3), np.uint8), filters_layer="conv1",
        activations=(activation,),
    )  # fmt: skip


def test_the_page_is_one_file_and_names_are_escaped() -> None:
    page = render_network("<net>", found(LAYERS), seen=seen(), classes=("a", "<b>", "c"), picture="x&y.png")
    assert "<b>" not in page and "&lt;b&gt;" in page and "&lt;net&gt;" in page and "x&amp;y.png" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page
    assert "70.0\u202f%" in page and "3 of 8" in page and "Grad-CAM at conv2" in page
    # the middle of six places lies at pixel 3, and its field begins one and two pixels before
    scale = 320 / 6
    assert f'x="{2 * scale:.2f}' in page and f'x="{1 * scale:.2f}' in page
    alone = render_network("net", None, seen=seen())
    assert "Layer by layer" not in alone and "The answer" in alone


def test_pictures_are_what_was_given() -> None:
    rng = np.random.default_rng(1)
    for shape in ((5, 7), (5, 7, 1), (5, 7, 3)):
        x = rng.integers(0, 256, shape, np.uint8)
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri(x).partition(",")[2]))))
        np.testing.assert_array_equal(decoded, x.reshape(decoded.shape))
    tiles = rng.integers(0, 100, (3, 2, 4), np.uint8)
    laid = sheet(tiles, 2)
    assert laid.shape == (5, 9) and (laid[2] == 128).all() and (laid[3:, 5:] == 128).all()
    np.testing.assert_array_equal(laid[3:, :4], tiles[2])
    image = np.full((2, 2, 3), 100, np.uint8)
    hot = heated(image, np.array([[0, 1], [0, 0]], np.float32))
    assert hot[0, 0].tolist() == [100, 100, 100] and hot[0, 1].tolist() == [201, 74, 35]


def test_a_histogram_shows_every_filled_bin() -> None:
    assert str(small_histogram((0, 4, 1), label="h")).count("<rect") == 2
    assert small_histogram((0, 0), label="h") == ""

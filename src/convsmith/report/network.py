"""The page of a network: drawn, its layers against the machine, what a value sees, and what one image does in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from convsmith.report import units
from convsmith.report.charts import Box, network_drawing, share_bar, small_histogram
from convsmith.report.charts.axes import style_of
from convsmith.report.charts.svg import canvas, element
from convsmith.report.page import fill
from convsmith.report.pictures import data_uri, heated, sheet

BOUNDS: Final = {"compute": 0, "memory": 1, "overhead": 2}
WINDOWS: Final = 5
FIELD_PX: Final = 320.0
SHEET_COLUMNS: Final = 8
FILTERS: Final = 64
FINE_PX: Final = 48
"""Pictures of fewer pixels are shown as squares rather than smoothed."""


class Seen(Protocol):
    """What the page shows of ``training.explain``, which this room must not know, since it needs torch."""

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    target: int
    heat: NDArray[np.float32]
    heat_layer: str
    filters: NDArray[np.uint8]
    filters_layer: str
    activations: Any


def render_network(
    name: str, found: Mapping[str, Any] | None, *, seen: Any = None, classes: Sequence[str] = (), picture: str = "", command: str = ""
) -> str:
    """Return the page. ``found``: the result of `convsmith inspect`, None for a page of the image alone. ``seen``: of ``training.explain``.

    ``picture``: the name of the image.
    """
    layers = list(found["layers"]) if found else []
    return fill(
        "network.html",
        name=name,
        command=command,
        picture=picture,
        figures=_figures(found) if found else [],
        drawing=network_drawing(boxes(layers), label=f"The layers of {name} and how they are connected") if layers else "",
        measured=bool(found and "measured" in found),
        machine=_machine(found) if found and "machine" in found else "",
        memory=list(found.get("memory", ())) if found else [],
        rows=[_row(layer) for layer in layers],
        fields=_fields(layers, seen.image, found["input_shape"]) if found and seen is not None else None,
        seen=None if seen is None else _seen(seen, classes),
    )


def boxes(layers: Sequence[Mapping[str, Any]]) -> list[Box]:
    """Return a box for each layer with work of its own; others belong to the last of their sources, whose box then reads the rest."""
    order = {layer["name"]: index for index, layer in enumerate(layers)}
    home: dict[str, str] = {}
    sources: dict[str, list[str]] = {}
    for layer in layers:
        given = [home.get(source, source) for source in layer["sources"]]
        known = [source for source in given if source in sources]
        if known and _joins(layer):
            place = max(known, key=order.__getitem__)
            sources[place] += [source for source in given if source != place]
        else:
            place = layer["name"]
            sources[place] = given
        home[layer["name"]] = place
    by_name = {layer["name"]: layer for layer in layers}
    return [_box(by_name[name], tuple(dict.fromkeys(given))) for name, given in sources.items()]


def _joins(layer: Mapping[str, Any]) -> bool:
    if "fused" in layer:
        return bool(layer["fused"]) and layer["op"] != "Concat"  # where branches meet, the drawing shows it
    return not layer["macs"] and len(layer["sources"]) == 1 and "Pool" not in layer["op"]


def _box(layer: Mapping[str, Any], sources: tuple[str, ...]) -> Box:
    told = [f"{layer['name']}: {layer['op']} to {units.shape(layer['output_shape'])}", f"{units.amount(layer['macs'])} MACs"]
    if layer.get("measured_s") is not None:
        told.append(f"{units.latency(layer['measured_s'])}, {units.percent(layer['share'])}, bound by {layer['bound']}")
    return Box(layer["name"], sources, "; ".join(told), layer.get("share") or 0.0, BOUNDS.get(layer.get("bound", ""), 3))


def _figures(found: Mapping[str, Any]) -> list[dict[str, str]]:
    totals, batch = found["totals"], found["batch"]
    images = "one image" if batch == 1 else f"{batch} images"
    shown = [
        {"name": "Parameters", "value": units.amount(totals["parameters"]), "note": f"{units.size(totals['weight_bytes'])} as float32"},
        {"name": "Multiply-accumulates", "value": units.amount(totals["macs"]), "note": f"for {images}"},
        {"name": "Activations at once", "value": units.size(totals["peak_activation_bytes"]), "note": f"at most, for {images}"},
    ]
    if "measured" in found:
        rounds = found["measured"]["rounds"]
        shown.append(
            {"name": "Time here", "value": units.latency(found["measured"]["total_s"]), "note": f"for {images}, median of {rounds}"}
        )
    return shown


def _machine(found: Mapping[str, Any]) -> str:
    speed = found["machine"]
    near, far = speed["bandwidths"][0][1], speed["bandwidths"][-1][1]
    threads = f"{speed['threads']} thread{'s' if speed['threads'] > 1 else ''}"
    return (
        f"This machine ({speed['processor']}, {speed['level']}, {threads}) does at most {units.amount(speed['flops_per_s'])} operations a "
        f"second and moves {units.size(near)} a second from its first cache, {units.size(far)} from memory."
    )


def _row(layer: Mapping[str, Any]) -> dict[str, Any]:
    field = layer.get("field")
    measured = layer.get("measured_s")
    return {
        "name": layer["name"],
        "op": layer["op"],
        "algorithm": layer.get("algorithm") or "",
        "shape": units.shape(layer["output_shape"][1:]),
        "macs": units.amount(layer["macs"]) if layer["macs"] else "",
        "weights": units.size(layer["weight_bytes"]) if layer["weight_bytes"] else "",
        "activation": units.size(layer["activation_bytes"]),
        "field": units.shape(sorted(set(field["size"]))) if field else units.MISSING,
        "intensity": f"{layer['intensity']:.1f}" if layer["macs"] else "",
        "roofline": units.latency(layer["roofline_s"]) if "roofline_s" in layer and not layer.get("fused") else "",
        "measured": units.latency(measured) if measured is not None else "",
        "bar": share_bar([layer["share"]], 70) if layer.get("share") else "",
        "bound": "fused" if layer.get("fused") else layer.get("bound", ""),
    }


def _fields(layers: Sequence[Mapping[str, Any]], image: NDArray[np.uint8], shape: Sequence[int]) -> dict[str, Any] | None:
    """Return the image with what the middle value of a few layers sees, smallest first; None where no layer has a field."""
    known = [layer for layer in layers if layer.get("field") and layer["field"]["axes"] and layer["macs"]]
    distinct = {tuple(layer["field"]["size"]): layer for layer in reversed(known)}
    candidates = sorted(distinct.values(), key=lambda layer: layer["field"]["size"])
    if not candidates:
        return None
    chosen = [candidates[i] for i in sorted({round(i * (len(candidates) - 1) / max(1, WINDOWS - 1)) for i in range(WINDOWS)})]
    rows, columns = shape[-2:]
    scale = FIELD_PX / max(rows, columns)
    parts = [
        element(
            "image", href=data_uri(image), x=0.0, y=0.0, width=columns * scale, height=rows * scale, preserveAspectRatio="none",
            style="image-rendering: pixelated" if max(image.shape[:2]) <= FINE_PX else None,
        )
    ]  # fmt: skip
    parts += [_window(layer, index, scale) for index, layer in enumerate(chosen)]
    legend = [
        {
            "style": style_of(index), "name": layer["name"], "size": units.shape(layer["field"]["size"]),
            "stride": units.shape(sorted(set(layer["field"]["stride"]))),
        }
        for index, layer in enumerate(chosen)
    ]  # fmt: skip
    return {"svg": canvas(columns * scale, rows * scale, *parts, label="The image with receptive fields"), "legend": legend}


def _window(layer: Mapping[str, Any], index: int, scale: float) -> Markup:
    field = layer["field"]
    first, second = field["axes"]
    middle = [layer["output_shape"][axis] // 2 for axis in (first, second)]
    top, left = (field["offset"][axis] + middle[axis] * field["stride"][axis] for axis in range(2))
    return element(
        "rect", element("title", layer["name"]), x=left * scale, y=top * scale, width=field["size"][1] * scale,
        height=field["size"][0] * scale, class_=f"window {style_of(index)}",
    )  # fmt: skip


def _seen(seen: Seen, classes: Sequence[str]) -> dict[str, Any]:
    names = list(classes) or [str(index) for index in range(len(seen.probabilities))]
    best = np.argsort(-seen.probabilities, kind="stable")[:5]
    return {
        "image": data_uri(seen.image),
        "coarse": max(seen.image.shape[:2]) <= 2 * FINE_PX,
        "heat": data_uri(heated(seen.image, seen.heat)),
        "heat_layer": seen.heat_layer,
        "silent": not seen.heat.any(),
        "target": names[seen.target],
        "best": [
            {"name": names[k], "value": units.percent(float(seen.probabilities[k])), "bar": share_bar([float(seen.probabilities[k])])}
            for k in best
        ],
        "filters": data_uri(sheet(seen.filters[:FILTERS], 2 * SHEET_COLUMNS)) if len(seen.filters) else "",
        "filters_layer": seen.filters_layer,
        "filters_count": len(seen.filters),
        "layers": [_layer(item) for item in seen.activations],
    }


def _layer(item: Any) -> dict[str, Any]:
    numbers = {key: units.digits3(getattr(item, key)) for key in ("mean", "std", "minimum", "maximum")}
    told = f"Values of {item.name} from {numbers['minimum']} to {numbers['maximum']}"
    return {
        **numbers,
        "name": item.name,
        "kind": item.kind,
        "shape": units.shape(list(item.shape)),
        "zeros": units.percent(item.zeros),
        "silent": f"{item.silent} of {item.shape[0]}" if len(item.shape) == 3 else "",
        "histogram": small_histogram(item.counts, label=told),
        "maps": data_uri(sheet(item.maps, SHEET_COLUMNS)) if len(item.maps) else "",
        "coarse": bool(len(item.maps)) and max(item.maps.shape[1:]) <= FINE_PX,
        "shown": f"{len(item.maps)} of {item.shape[0]} channels" if len(item.maps) else "",
    }

// The curves of two runs over each other.
import { island } from "./page.js";
import { draw, escaped, line } from "./charts.js";

const told = island("curves") ?? [];
for (const place of document.querySelectorAll("[data-series]")) {
  const key = place.dataset.series;
  draw(place, () => ({
    data: told.filter((run) => run.series[key].x.length).map((run, index) => line(escaped(run.name), run.series[key], index + 1)),
    x: "epoch",
    y: key === "val_loss" ? "loss" : "right",
    yMore: key === "val_loss" ? {} : { tickformat: ".1%" },
  }));
}

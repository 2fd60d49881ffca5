// The page of one run: curves that grow while it runs, its actions, its notes, its files.
import { act, address, ask, element, island, percent, say, size } from "./page.js";
import { show } from "./answers.js";
import { watch as machine } from "./machine.js";
import { calibration, confusion, draw, escaped, line, mark, series } from "./charts.js";

const run = document.querySelector("#run");
const name = run.dataset.name;
const base = `/api/runs/${address(name)}`;
const told = island("curves");
const evaluation = island("evaluation");
const NAMES = { loss: "training", val_loss: "validation", accuracy: "training", val_accuracy: "validation" };

function best() {
  return told.best ? mark(told.best.epoch) : {};
}

function draws() {
  if (!document.querySelector("#plot-loss")) return;
  draw(document.querySelector("#plot-loss"), () => ({
    data: [
      ...(told.steps.x.length ? [line("single updates", told.steps, 4, { line: { width: 1 }, opacity: 0.4 })] : []),
      ...["loss", "val_loss"].filter((key) => told.series[key].x.length).map((key, index) => line(NAMES[key], told.series[key], index + 1)),
    ],
    x: "epoch",
    y: "loss",
    ...best(),
  }));
  draw(document.querySelector("#plot-accuracy"), () => ({
    data: ["accuracy", "val_accuracy"].filter((key) => told.series[key].x.length).map((key, index) => line(NAMES[key], told.series[key], index + 1)),
    x: "epoch",
    y: "right",
    yMore: { tickformat: ".1%", ...(told.series.accuracy.x.length ? {} : { range: [0, 1] }) },
    ...best(),
  }));
  draw(document.querySelector("#plot-lr"), () => ({ data: [line("learning rate", told.series.lr, 3)], x: "epoch", y: "learning rate", yMore: told.series.lr.x.length ? { rangemode: "tozero" } : { range: [0, 1] }, showlegend: false }));
  table();
}

function table() {
  const rows = new Map();
  for (const key of Object.keys(told.series)) {
    told.series[key].x.forEach((epoch, index) => rows.set(epoch, { ...rows.get(epoch), [key]: told.series[key].y[index] }));
  }
  const number = (value) => (value === undefined ? "" : value.toPrecision(4));
  document.querySelector("#epochs tbody").replaceChildren(
    ...[...rows.entries()].sort((a, b) => a[0] - b[0]).map(([epoch, row]) =>
      element("tr", {}, ...[String(+epoch.toFixed(2)), number(row.loss), number(row.val_loss), percent(row.accuracy), percent(row.val_accuracy), number(row.lr)].map((text) => element("td", { class: "n", text }))),
    ),
  );
}

let planned = false;
function redraw() {
  if (planned || document.hidden) return;
  planned = true;
  setTimeout(() => {
    planned = false;
    draws();
  }, 400);
}

function epoch(event) {
  for (const key of Object.keys(told.series)) {
    if (typeof event[key] !== "number") continue;
    const points = told.series[key];
    const at = points.x.indexOf(event.epoch);
    if (at >= 0) points.y[at] = event[key];
    else {
      points.x.push(event.epoch);
      points.y.push(event[key]);
    }
  }
  if (typeof event.val_accuracy === "number" && (!told.best || event.val_accuracy >= told.best.accuracy)) {
    told.best = { epoch: event.epoch, accuracy: event.val_accuracy };
    const place = document.querySelector("[data-best-epoch]");
    if (place) {
      place.textContent = String(+event.epoch.toFixed(2));
      document.querySelector("[data-best-accuracy]").textContent = percent(event.val_accuracy);
    } else {
      document.querySelector("#figures").append(
        element("div", {}, element("dt", { text: "Best epoch" }), element("dd", { class: "value", "data-best-epoch": "", text: String(+event.epoch.toFixed(2)) }),
          element("dd", { class: "note" }, element("span", { "data-best-accuracy": "", text: percent(event.val_accuracy) }), " of the validation images")),
      );
    }
  }
  redraw();
}

function log(event) {
  const { time, kind, ...fields } = event;
  const text = Object.entries(fields).map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  const clock = new Date(time);
  const shown = Number.isNaN(clock.valueOf()) ? "" : clock.toLocaleTimeString();
  document.querySelector("#events").append(element("tr", {}, element("td", { class: "nowrap note", text: shown }), element("th", { scope: "row", text: kind }), element("td", {}, element("pre", { class: "plain", text: text.slice(0, 4000) }))));
}

const began = {};
function progress(line) {
  const bar = document.querySelector("#progress");
  if (!line?.total) return;
  bar.hidden = false;
  bar.value = line.done / line.total;
  const now = Date.parse(line.time);
  began[line.stage] ??= { done: line.done, time: now };
  const gone = now - began[line.stage].time;
  const moved = line.done - began[line.stage].done;
  const left = moved > 0 && gone > 1500 ? ((gone / moved) * (line.total - line.done)) / 1000 : null;
  document.querySelector("#stage").textContent = `${line.stage} ${percent(bar.value)}${left === null ? "" : `, ${duration(left)} left`}`;
  if (line.stage === "train" && typeof line.loss === "number" && typeof line.epoch === "number") {
    told.steps.x.push(line.epoch);
    told.steps.y.push(line.loss);
    redraw();
  }
}

const duration = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);

function watch() {
  const source = new EventSource(`${base}/events?after=${run.dataset.after}`);
  source.addEventListener("event", (message) => {
    const event = JSON.parse(message.data);
    log(event);
    if (event.kind === "epoch") epoch(event);
  });
  source.addEventListener("progress", (message) => progress(JSON.parse(message.data)));
  source.addEventListener("gone", () => {
    source.close();
    document.querySelector("#stage").textContent = "This run was removed meanwhile.";
    for (const button of document.querySelectorAll("[data-act]")) button.hidden = true;
    say("This run was removed meanwhile.", true);
  });
  source.addEventListener("status", (message) => {
    const now = JSON.parse(message.data);
    if (now.status === run.dataset.status) return;
    source.close();
    if (!document.querySelector("#noting").dataset.changed) location.reload();
    else say(`The run is ${now.status}; load the page again when your notes are kept.`);
  });
}

const ACTS = {
  abort: async () => {
    await ask("POST", `${base}/abort`);
    say("It is being stopped, with a checkpoint.");
  },
  resume: async () => {
    const { job } = await ask("POST", `${base}/resume`);
    location.href = `/jobs/${job}`;
  },
  delete: async () => {
    if (!confirm(`Delete ${name} for good?`)) return;
    await ask("DELETE", base);
    location.href = "/";
  },
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) act(button, ACTS[button.dataset.act]);
});

const noting = document.querySelector("#noting");
noting.addEventListener("input", () => (noting.dataset.changed = "yes"));
noting.addEventListener("submit", (event) => {
  event.preventDefault();
  act(noting.querySelector("button"), async () => {
    const said = document.querySelector("#noted");
    try {
      const kept = await ask("PUT", `${base}/notes`, { title: noting.title.value, group: noting.group.value, text: noting.text.value, version: Number(noting.dataset.version) });
      noting.dataset.version = kept.version;
      delete noting.dataset.changed;
      document.querySelector("#title").textContent = kept.title || name;
      said.textContent = "Kept.";
    } catch (error) {
      if (error.status !== 409) throw error;
      const found = error.error.found;
      noting.dataset.version = found.version;
      said.textContent = `Changed elsewhere meanwhile; there it says “${found.title || name}”: ${found.text.slice(0, 300)} Press Keep again to replace that.`;
    }
  });
});

const files = document.querySelector("#all-files");
files.addEventListener("toggle", async () => {
  if (!files.open || files.dataset.read) return;
  files.dataset.read = "yes";
  const { files: found } = await ask("GET", `${base}/files`);
  files.querySelector("ul").replaceChildren(
    ...found.map((file) => element("li", {}, element("a", { href: `${base}/files/${file.name.split("/").map(address).join("/")}`, text: file.name }), ` ${size(file.bytes)}`)),
  );
});

const embedded = document.querySelector("#embedded");
embedded.addEventListener("toggle", () => {
  const frame = embedded.querySelector("iframe");
  if (embedded.open && !frame.src) frame.src = frame.dataset.src;
});

if (document.querySelector("#plot-loss")) draws();
else if (embedded) embedded.open = true;
if (evaluation) {
  const plot = document.querySelector("#plot-confusion");
  confusion(plot, evaluation).then(() => plot.on("plotly_click", ({ points: [cell] }) => document.querySelector("#gallery") && show(cell.y, cell.x)));
  calibration(document.querySelector("#plot-calibration"), evaluation);
}
const frontier = island("frontier");
function trade(place, key, title, scale) {
  const right = frontier.points.map((row) => row.accuracy);
  const [least, most] = [Math.min(...right), Math.max(...right)];
  const room = Math.max(0.02, 0.1 * (most - least)); // equal ones would else stand in an axis from -50 to 150 %
  const points = (rows, name, index) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: rows.map((row) => row[key] / scale),
    y: rows.map((row) => row.accuracy),
    text: rows.map((row) => escaped(row.name)),
    hovertemplate: "%{text}<br>%{x:.3g}, %{y:.2%}<extra></extra>",
    marker: { color: series(index), size: 10 },
  });
  draw(place, () => ({
    data: [
      points(frontier.points.filter((row) => !row.frontier), "beaten", 4),
      points(frontier.points.filter((row) => row.frontier && row.name !== frontier.chosen), "frontier", 1),
      points(frontier.points.filter((row) => row.name === frontier.chosen), "to take", 2),
    ],
    x: title,
    y: "right",
    yMore: { tickformat: ".1%", range: [least - room, most + room] },
  }));
}
if (frontier) {
  trade(document.querySelector("#plot-time"), "ms", "milliseconds", 1);
  trade(document.querySelector("#plot-size"), "file_bytes", "kilobytes", 1000);
}
if (run.dataset.status === "running") {
  if (told.progress) progress(told.progress);
  watch();
  machine();
} else if (run.dataset.coming) watch(); // a job is about to go on with it

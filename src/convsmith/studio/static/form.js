// The form of a new job: what it comes to is told while it is filled in, and started as jobs of their own.
import { act, ask, say } from "./page.js";
import { draw, line } from "./charts.js";
import { opened, resized } from "./resizing.js";

const form = document.querySelector("#job");
const problem = document.querySelector("#problem");
const combinations = document.querySelector("#combinations");

export function typed() {
  const found = {};
  for (const input of form.querySelectorAll("input[name], select[name], textarea[name]")) {
    if (input.name && !input.name.startsWith("_") && input.value.trim()) found[input.name] = input.value;
  }
  return found;
}

const asked = () => ({ verb: form.dataset.verb, typed: typed(), preset: form.querySelector("[data-preset]")?.value ?? "" });

function tell(text) {
  problem.hidden = !text;
  problem.textContent = text;
}

let waiting;
let latest = 0;
function describe() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const mine = ++latest;
    if ([...form.querySelectorAll("[required]")].some((input) => !input.value.trim())) {
      schedule();
      return;
    }
    try {
      const { jobs } = await ask("POST", "/api/verbs/describe", asked());
      if (mine !== latest) return;
      for (const what of ["command", "python", "yaml"]) {
        const place = form.querySelector(`[data-told="${what}"]`);
        if (place) place.textContent = jobs.map((job) => job[what]).join("\n");
      }
      combinations.textContent = jobs.length > 1 ? `${jobs.length} jobs, one for each combination` : "";
      tell("");
    } catch (error) {
      if (mine === latest && form.dataset.tried) tell(error.message);
    }
    schedule();
  }, 250);
}

const KINDS = ["kind", "warmup", "gamma", "power", "step", "milestones", "center", "rise", "start", "floor", "settle"];
async function schedule() {
  const place = document.querySelector("#schedule");
  if (!place) return;
  const values = typed();
  const first = (name) => Number((values[`training.${name}`] ?? values[name] ?? "").split(",")[0]);
  const body = { schedule: {} };
  if (first("learning_rate") > 0) body.learning_rate = first("learning_rate");
  if (first("epochs") > 0) body.epochs = first("epochs");
  for (const key of KINDS) {
    const text = values[`training.schedule.${key}`];
    if (text === undefined) continue;
    body.schedule[key] = key === "kind" ? text : key === "milestones" ? text.split(",").map(Number) : Number(text);
  }
  const said = document.querySelector("#schedule-said");
  try {
    const told = await ask("POST", "/api/schedule", body);
    said.textContent = values.epochs || values["training.epochs"] ? "" : "Drawn for 20 epochs; where the epochs are chosen from the images, it stretches with them.";
    await draw(place, () => ({ data: [line("learning rate", told, 1)], x: "epoch", y: "learning rate", showlegend: false, yMore: { rangemode: "tozero" } }));
  } catch (error) {
    said.textContent = error.message;
  }
}

async function start() {
  form.dataset.tried = "yes";
  const missing = [...form.querySelectorAll("[required]")].find((input) => !input.value.trim());
  if (missing) {
    tell(`${missing.labels[0].firstChild.textContent.trim()} is needed.`);
    missing.focus();
    return;
  }
  try {
    const { jobs } = await ask("POST", "/api/jobs", asked());
    location.href = jobs.length === 1 ? `/jobs/${jobs[0]}` : "/jobs";
  } catch (error) {
    tell(error.message);
    say(error.message, true);
  }
}

form.addEventListener("input", describe);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  act(form.querySelector('[type="submit"]'), start);
});

// How the images will be resized, shown on one of them once somebody wants to see it.
const example = document.querySelector("#example");
let seen = 0;
async function exemplify() {
  if (!example.open) return;
  const mine = ++seen;
  const said = example.querySelector("[role=status]");
  const source = form.elements.data.value.trim();
  if (!source) {
    said.textContent = "Fill in the images first.";
    return;
  }
  said.textContent = "Reading the images …";
  try {
    const told = await opened(source, () => mine === seen);
    if (!told) return;
    const [part] = Object.keys(told.parts);
    const size = Math.min(512, Number(form.elements.size?.value) || 128);
    const show = (index) => resized(source, { part, index, size, chosen: form.elements.resize.value });
    example.querySelector("div").replaceChildren(...[0, Math.floor(told.parts[part] / 2)].map(show));
    said.textContent = form.elements.resize.value ? "" : "Nothing is set: the way that fits is chosen from the images.";
  } catch (error) {
    if (mine === seen) said.textContent = error.message;
  }
}
example?.addEventListener("toggle", exemplify);
form.addEventListener("change", (event) => ["data", "size", "resize"].includes(event.target.name) && example && exemplify());

// The choice of a network fills in the fields that the command line has: the architecture and the weights it begins with.
const choice = document.querySelector("#network");
function network() {
  const kind = choice.querySelector("[data-network]:checked").value;
  for (const part of choice.querySelectorAll("[data-for]")) part.hidden = part.dataset.for !== kind;
  const value = (id) => choice.querySelector(id).value;
  const previous = value("#previous");
  form.elements.model.value = kind === "standard" ? value("#standard") : "";
  const state = value("#state");
  const weights = { run: previous && `${form.dataset.root}/${previous}/${state ? `checkpoints/${state}.pt` : "weights.safetensors"}`, pretrained: value("#pretrained").trim() };
  form.elements.weights.value = weights[kind] ?? "";
  const named = value("#pretrained").startsWith("torchvision/") ? value("#pretrained").slice(12) : "";
  const drawn = { standard: value("#standard"), run: previous, pretrained: named }[kind];
  const link = choice.querySelector("#drawing");
  link.href = drawn ? `/networks?name=${encodeURIComponent(drawn)}` : "/networks";
  link.textContent = drawn ? `Draw ${drawn}` : "All networks";
}
async function states() {
  const previous = choice.querySelector("#previous").value;
  const select = choice.querySelector("#state");
  if (!previous || select.dataset.of === previous) return;
  select.dataset.of = previous;
  const { checkpoints } = await ask("GET", `/api/runs/${encodeURIComponent(previous)}/checkpoints`).catch(() => ({ checkpoints: [] }));
  select.replaceChildren(new Option("the best", ""), ...checkpoints.map((one) => new Option(one.epoch === null ? one.name : `${one.name}, epoch ${+one.epoch.toFixed(2)}`, one.name)));
}
choice?.addEventListener("input", () => {
  if (choice.querySelector('[value="run"]').checked) states();
  network();
  describe();
});
if (choice && form.elements.model.value && !form.elements.weights.value) {
  const standard = choice.querySelector("#standard");
  if ([...standard.options].some((option) => option.value === form.elements.model.value)) {
    choice.querySelector('[value="standard"]').checked = true;
    standard.value = form.elements.model.value;
    network();
  }
}

describe();

// Asking a run's network: images named, explained; its test images by what they are and what they were taken for.
import { act, address, ask, element, percent } from "./page.js";

const name = document.querySelector("#run").dataset.name;
const base = `/api/runs/${address(name)}`;
const find = (id) => document.getElementById(id);

function meter(best) {
  return element("ul", { class: "meter" }, ...best.map((one) => element("li", {}, element("span", { text: one.class }), element("progress", { max: 1, value: one.score, "aria-label": one.class }), element("span", { class: "n", text: percent(one.score) }))));
}

async function classify(files) {
  const shown = [...files].slice(0, 200);
  if (!shown.length) return;
  find("asking-said").textContent = "Asking; the first time takes some seconds …";
  const body = new FormData();
  for (const file of shown) body.append("images", file, file.name);
  try {
    const told = await ask("POST", `${base}/classify?checkpoint=${address(find("checkpoint")?.value ?? "")}`, body);
    const state = find("checkpoint")?.selectedOptions[0];
    find("asking-said").textContent = `${shown.length} asked of ${told.network}${state?.value ? ` with the weights of ${state.textContent}` : ""}`;
    find("answered").replaceChildren(
      ...told.predictions.map((row, index) => {
        const box = element("div", { class: "answer" });
        if (row.error) {
          box.append(element("strong", { text: row.image }), element("p", { class: "wrong-word", text: row.error }));
          return box;
        }
        const url = URL.createObjectURL(shown[index]);
        const button = element("button", { type: "button", text: "Explain" });
        button.addEventListener("click", () => act(button, () => explain(shown[index], row.best[0].class, "")));
        box.append(element("img", { src: url, alt: row.image }), element("div", {}, element("p", {}, element("strong", { text: row.image }), " ", button), meter(row.best)));
        return box;
      }),
    );
  } catch (error) {
    find("asking-said").textContent = "";
    throw error;
  }
}

let explained = null;
async function explain(file, target, layer) {
  const dialog = find("explained");
  explained = file;
  find("explained-said").textContent = "Looking …";
  if (!dialog.open) {
    find("explained-body").replaceChildren();
    dialog.showModal();
  }
  const body = new FormData();
  body.append("image", file, file.name);
  body.append("target", target);
  body.append("layer", layer);
  body.append("checkpoint", find("checkpoint")?.value ?? "");
  let told;
  try {
    told = await ask("POST", `${base}/explain`, body);
  } finally {
    find("explained-said").textContent = "";
  }
  find("explained-class").value = told.target;
  find("explained-layer").replaceChildren(...told.places.map((place) => element("option", { text: place })));
  find("explained-layer").value = told.heat_layer;
  const pixels = (src, alt, side) => element("img", { class: "coarse", src, alt, width: side, height: side });
  find("explained-body").replaceChildren(
    element("div", { class: "trio" }, element("figure", {}, pixels(told.image, "What the network read", 220), element("figcaption", { class: "note", text: "what it read" })), element("figure", {}, pixels(told.heat, `Where ${told.target} is seen`, 220), element("figcaption", { class: "note", text: `what speaks for ${told.target}` })), meter(told.best)),
    element("h4", { text: `Filters of ${told.filters_layer}` }),
    element("div", { class: "tiles" }, ...told.filters.map((src, index) => pixels(src, `filter ${index}`, 40))),
    ...told.layers.map((one) => element("details", {}, element("summary", { text: `${one.kind} ${one.name}: ${one.shape.join(" × ")}` }),
      element("p", { class: "note", text: `mean ${one.mean.toPrecision(3)}, deviation ${one.std.toPrecision(3)}, from ${one.minimum.toPrecision(3)} to ${one.maximum.toPrecision(3)}, ${percent(one.zeros)} zeros, ${one.silent} silent channels` }),
      histogram(one.counts, `activations of ${one.name}`), element("div", { class: "tiles" }, ...one.pictures.map((src, index) => pixels(src, `channel ${one.channels[index]}`, 72))))),
    element("details", {}, element("summary", { text: "Weights" }), ...told.weights.map((one) => element("div", {}, element("p", { class: "note", text: `${one.name}: ${one.shape.join(" × ")}, ${one.parameters.toLocaleString()} parameters, mean ${one.mean.toPrecision(3)}, deviation ${one.std.toPrecision(3)}` }), histogram(one.counts, `weights ${one.name}`)))),
  );
}

function histogram(counts, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${counts.length * 6} 40`, width: counts.length * 6, height: 40, role: "img", "aria-label": `Histogram of ${label}` })) svg.setAttribute(key, value);
  const most = Math.max(1, ...counts);
  counts.forEach((count, index) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x: index * 6, y: 40 - (38 * count) / most, width: 5, height: (38 * count) / most, class: "fill series-1" })) bar.setAttribute(key, value);
    svg.append(bar);
  });
  return svg;
}

const asking = find("asking");
if (asking) {
  find("asked").addEventListener("change", (event) => act(null, () => classify(event.target.files)));
  asking.addEventListener("submit", (event) => event.preventDefault());
  asking.addEventListener("dragover", (event) => { event.preventDefault(); asking.classList.add("over"); });
  asking.addEventListener("dragleave", () => asking.classList.remove("over"));
  asking.addEventListener("drop", (event) => {
    event.preventDefault();
    asking.classList.remove("over");
    act(null, () => classify(event.dataTransfer.files));
  });
  for (const id of ["explained-class", "explained-layer"]) {
    find(id).addEventListener("change", () => act(null, () => explain(explained, find("explained-class").value, find("explained-layer").value)));
  }
}

// The test images need the run's images to be opened first, which a page that nobody scrolls does not ask for.
let page = 1;
let opened;
function open() {
  opened ??= (async () => {
    for (;;) {
      const told = await ask("GET", `${base}/images`);
      if (told.state === "ready") return true;
      if (told.state === "failed") throw new Error(told.error);
      find("tested-count").textContent = told.total ? `Opening the images: ${Math.round((100 * told.done) / told.total)}\u202f%` : "Opening the images …";
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  })();
  return opened;
}

const tile = (image, caption) => element("li", {}, element("figure", {}, element("img", { src: `${base}/tested/${image.index}`, alt: image.name ?? `test image ${image.index}`, loading: "lazy", width: 128, height: 128 }), element("figcaption", {}, ...caption)));

async function tested(more) {
  page = more ? page + 1 : 1;
  const values = new URLSearchParams({ page });
  if (find("tested-true").value) values.set("true", find("tested-true").value);
  if (find("tested-said").value) values.set("predicted", find("tested-said").value);
  if (find("tested-wrong").checked) values.set("wrong", "true");
  const told = await ask("GET", `${base}/tested?${values}`);
  await open().catch((error) => { find("tested-count").textContent = error.message; });
  const tiles = told.images.map((image) => tile(image, [element("span", { class: image.true === image.predicted ? "" : "wrong-word", text: image.predicted }), ` at ${percent(image.score)}${image.true === image.predicted ? "" : `, is ${image.true}`}`]));
  const list = find("tested-images");
  if (more) list.append(...tiles);
  else list.replaceChildren(...tiles);
  find("tested-count").textContent = `${told.total.toLocaleString()} images, the most confident first`;
  find("tested-more").hidden = told.page >= told.pages;
}

async function top() {
  const told = await ask("GET", `${base}/top`);
  await open();
  find("tested-images").replaceChildren(
    ...told.classes.flatMap((row) => [element("li", { class: "whole" }, element("h3", { text: row.class })), ...row.images.map((image) => tile(image, [percent(image.score), image.true === row.class ? "" : element("span", { class: "wrong-word", text: ` is ${image.true}` })]))]),
  );
  find("tested-count").textContent = "The images of the highest score for each class";
  find("tested-more").hidden = true;
}

export function show(real, said) {
  find("tested-true").value = real;
  find("tested-said").value = said;
  find("gallery").scrollIntoView();
  act(null, () => tested(false));
}

const section = find("gallery");
if (section) {
  for (const id of ["tested-true", "tested-said", "tested-wrong"]) find(id).addEventListener("change", () => act(null, () => tested(false)));
  find("tested-more").addEventListener("click", (event) => act(event.target, () => tested(true)));
  find("tested-top").addEventListener("click", (event) => act(event.target, top));
  new IntersectionObserver((seen, watcher) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    watcher.disconnect();
    act(null, () => tested(false));
  }).observe(section);
}

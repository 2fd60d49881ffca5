// A source of images: read in the background, counted, shown, resized, augmented, checked.
import { act, ask, element, say } from "./page.js";
import { columns } from "./charts.js";
import { resized } from "./resizing.js";

const place = document.querySelector("#images");
const source = place.dataset.source;
const query = (values) => new URLSearchParams({ source, ...values }).toString();
const find = (id) => document.getElementById(id);
const picture = (values) => `/api/images/picture?${query(values)}`;
let told;
let page = 1;
let examples = 0;

async function read(again = false) {
  try {
    told = await ask("GET", `/api/images/look?${query(again ? { again: true } : {})}`);
  } catch (error) {
    told = { state: "failed", error: error.message };
  }
  if (told.state === "working") {
    if (told.total) find("progress").value = told.done / told.total;
    find("state").textContent = told.total ? `Reading: ${told.done.toLocaleString()} of ${told.total.toLocaleString()}` : "Reading …";
    setTimeout(read, 500);
    return;
  }
  delete place.dataset.reading;
  find("progress").hidden = true;
  find("state").textContent = "";
  find("problem").hidden = told.state !== "failed";
  find("problem").textContent = told.error;
  find("ready").hidden = told.state !== "ready";
  if (told.state === "ready") show();
}

function figure(title, value, note) {
  return element("div", {}, element("dt", { text: title }), element("dd", { class: "value", text: value }), element("dd", { class: "note", text: note }));
}

function show() {
  const parts = Object.entries(told.parts);
  const all = parts.reduce((sum, [, count]) => sum + count, 0);
  find("figures").replaceChildren(
    figure("Images", all.toLocaleString(), parts.map(([name, count]) => `${count.toLocaleString()} ${name}`).join(", ")),
    figure("Classes", String(told.classes.length), told.channels === 1 ? "grey" : "colour"),
    figure("Left out", String(told.left_out), "files that cannot be used"),
  );
  columns(find("plot-classes"), Object.entries(told.counts), told.classes);
  find("mean").src = `/api/images/mean?${query({ part: parts[0][0] })}`;
  find("counts").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col", text: "Class" }), ...parts.map(([name]) => element("th", { scope: "col", class: "n", text: name })))),
    element("tbody", {}, ...told.classes.map((name, index) => element("tr", {}, element("th", { scope: "row", text: name }), ...parts.map(([part]) => element("td", { class: "n", text: told.counts[part][index].toLocaleString() }))))),
  );
  find("part").replaceChildren(...parts.map(([name]) => element("option", { text: name })));
  find("label").replaceChildren(element("option", { value: "", text: "all" }), ...told.classes.map((name, index) => element("option", { value: index, text: name })));
  const rows = told.problems.map((row) => element("tr", {}, element("td", { class: "path", text: row.name }), element("td", { text: row.kind }), element("td", { text: row.reason })));
  const head = element("thead", {}, element("tr", {}, ...["File", "Kind", "Why"].map((text) => element("th", { scope: "col", text }))));
  find("problems").replaceChildren(rows.length ? element("div", { class: "scroll", tabindex: 0 }, element("table", {}, head, element("tbody", {}, ...rows))) : element("p", { text: "Every file could be read; nothing was left out." }), ...told.notes.map((text) => element("p", { class: "note", text })));
  gallery();
  resize();
}

async function gallery() {
  const values = { part: find("part").value, page, size: find("size").value };
  if (find("label").value) values.label = find("label").value;
  const found = await act(null, () => ask("GET", `/api/images/gallery?${query(values)}`));
  if (!found) return;
  page = found.page;
  find("gallery").replaceChildren(
    ...found.images.map((image) =>
      element("li", {}, element("figure", {}, element("img", { src: picture({ part: values.part, index: image.index }), alt: image.name, loading: "lazy", width: 128, height: 128 }), element("figcaption", {}, told.classes[image.label], element("span", { class: "note path", title: image.name, text: image.name.split("/").at(-1) })))),
    ),
  );
  find("shown").textContent = `${found.total.toLocaleString()} images`;
  find("page").textContent = `page ${found.page} of ${found.pages}`;
  find("earlier").disabled = found.page <= 1;
  find("later").disabled = found.page >= found.pages;
}

for (const id of ["part", "label", "size"]) {
  find(id).addEventListener("change", () => {
    page = 1;
    gallery();
  });
}
find("earlier").addEventListener("click", () => { page -= 1; gallery(); });
find("later").addEventListener("click", () => { page += 1; gallery(); });

function resize() {
  const part = Object.keys(told.parts)[0];
  const count = told.parts[part];
  const rows = [0, 1, 2].map((number) => Math.floor((examples + number * count) / 3) % count);
  const size = Math.min(512, Math.max(8, Number(find("side").value) || 128));
  const fraction = Math.min(1, Math.max(0.1, Number(find("fraction").value) || 1));
  find("resized").replaceChildren(...rows.map((index) => resized(source, { part, index, size, fraction })));
}
for (const id of ["side", "fraction"]) find(id).addEventListener("change", resize);
find("other").addEventListener("click", () => { examples += 7; resize(); });

function augmentation() {
  const found = {};
  for (const input of find("augment").querySelectorAll("[name]")) {
    const text = input.value.trim();
    if (!text) continue;
    found[input.name] = text === "true" ? true : text === "false" ? false : Number.isNaN(Number(text)) ? text : Number(text);
  }
  return Object.keys(found).length ? found : null;
}

find("augment").addEventListener("submit", (event) => {
  event.preventDefault();
  find("augment-said").textContent = "Drawing; the first time takes some seconds …";
  act(event.submitter, async () => {
    try {
      const drawn = await ask("POST", "/api/images/augment", { source, augment: augmentation() });
      const sheet = find("sheet");
      [sheet.height, sheet.width] = drawn.size;
      sheet.src = drawn.sheet;
      sheet.hidden = false;
      const changes = Object.entries(drawn.augment).map(([key, value]) => `${key} ${value}`).join(", ") || "nothing changes";
      find("augment-said").textContent = `${changes} (${drawn.reasons.join("; ") || "chosen for these images"})`;
    } catch (error) {
      find("augment-said").textContent = "";
      throw error;
    }
  });
});

async function check() {
  const found = await act(null, () => ask("GET", `/api/images/check?${query({})}`));
  if (!found) return;
  const bar = find("checked");
  bar.hidden = found.state !== "working";
  if (found.total) bar.value = found.done / found.total;
  if (found.state === "working") {
    setTimeout(check, 700);
    return;
  }
  if (found.state === "failed") {
    say(found.error, true);
    return;
  }
  const { health, groups } = found;
  find("check-said").textContent = `${health.images.toLocaleString()} images looked at`;
  const card = (item) => {
    const one = (name) => element("img", { src: `/api/images/found?${query({ name })}`, alt: name, loading: "lazy", width: 128, height: 128 });
    return element("li", {}, element("figure", {}, element("div", { class: "twin" }, one(item.name), ...(item.other ? [one(item.other)] : [])), element("figcaption", {}, element("span", { text: item.label ?? "" }), element("span", { class: "note", text: ` ${item.reason}` }), element("span", { class: "note path", title: item.name, text: item.name.split("/").at(-1) }))));
  };
  find("findings").replaceChildren(
    ...(health.errors.length ? health.errors.map((text) => element("p", { class: "verdict no", text })) : []),
    element("p", { class: groups.length ? "verdict" : "verdict yes", text: groups.length ? "Worth a look before training:" : "Nothing speaks against one of these images." }),
    ...(health.duplicates.length ? [element("p", { text: `${health.duplicates.length} groups of pixel-identical images, such as ${health.duplicates[0].join(" and ")}` })] : []),
    ...groups.map((group) => element("section", {}, element("h3", { text: `${group.count} × ${group.means}` }), element("ul", { class: "gallery twins" }, ...group.found.map(card)))),
  );
}
find("check").addEventListener("click", () => {
  find("check").disabled = true;
  check();
});
find("again").addEventListener("click", () => {
  find("progress").hidden = false;
  find("ready").hidden = true;
  find("check").disabled = false;
  find("findings").replaceChildren();
  read(true);
});

read();

// One image as it is and as each way of resizing would give it to a network.
import { ask, element } from "./page.js";

const MODES = ["squash", "crop", "fill", "half_crop"];

const tile = (place, alt, words, chosen) => element("figure", chosen ? { class: "chosen" } : {}, element("img", { src: `/api/images/${place}`, alt, width: 160, height: 160, loading: "lazy" }), element("figcaption", { class: "note", text: words }));

// `chosen`: the way that is set, which is marked.
export function resized(source, { part, index, size, fraction = 1, chosen = "" }) {
  const query = (more) => new URLSearchParams({ source, part, index, ...more });
  const shown = (mode) => tile(`resized?${query({ mode, size, fraction: mode === "squash" ? 1 : fraction })}`, `Image ${index}, ${mode.replace("_", " ")}`, `${mode.replace("_", " ")}, ${size} pixels`, mode === chosen);
  return element("div", { class: "trio" }, tile(`picture?${query()}`, `Image ${index}, as it is`, "as it is", false), ...MODES.map(shown));
}

// Wait until a source has been read; null where another one was asked for meanwhile.
export async function opened(source, wanted) {
  for (;;) {
    const told = await ask("GET", `/api/images/look?${new URLSearchParams({ source })}`);
    if (!wanted()) return null;
    if (told.state === "ready") return told;
    if (told.state === "failed") throw new Error(told.error);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

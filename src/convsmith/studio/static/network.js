// A network drawn from the input down: a box a layer, straight lines to the next, arcs for what skips.
import { ask } from "./page.js";

const place = document.querySelector("#network");
const WIDTH = 400;
const HEIGHT = 44;
const STEP = 64;
const make = (name, values, text) => {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  return found;
};
const short = (count) => (count >= 1e9 ? `${(count / 1e9).toFixed(2)} G` : count >= 1e6 ? `${(count / 1e6).toFixed(2)} M` : count >= 1e3 ? `${(count / 1e3).toFixed(1)} k` : String(count));

function drawing(told) {
  const rows = new Map(told.nodes.map((node, index) => [node.name, index + 1]));
  const height = (told.nodes.length + 1) * STEP + 10;
  const svg = make("svg", { class: "chart network", viewBox: `0 0 ${WIDTH + 240} ${height}`, width: WIDTH + 240, height, role: "img", "aria-label": `${told.nodes.length} layers from input to output` });
  const most = Math.max(1, ...told.nodes.map((node) => node.macs ?? 0));
  svg.append(make("rect", { class: "board", x: 0, y: 4, width: WIDTH, height: HEIGHT, rx: 6 }), make("text", { class: "strong", x: 12, y: 31 }, `input ${told.input.slice(1).join(" × ")}`));
  told.nodes.forEach((node, index) => {
    const top = (index + 1) * STEP + 4;
    for (const from of node.reads.length ? node.reads : [null]) {
      const row = from === null ? 0 : rows.get(from);
      const bottom = row * STEP + 4 + HEIGHT;
      if (row === index) svg.append(make("line", { class: "axis", x1: WIDTH / 2, x2: WIDTH / 2, y1: bottom, y2: top }));
      else {
        const reach = WIDTH + Math.min(200, 20 + 12 * (index + 1 - row));
        svg.append(make("path", { class: "skip-line", d: `M ${WIDTH} ${bottom - HEIGHT / 2} C ${reach} ${bottom - HEIGHT / 2}, ${reach} ${top + HEIGHT / 2}, ${WIDTH} ${top + HEIGHT / 2}` }));
      }
    }
    svg.append(make("rect", { class: "board", x: 0, y: top, width: WIDTH, height: HEIGHT, rx: 6 }));
    if (node.macs) svg.append(make("rect", { class: "fill series-1", x: 0, y: top + HEIGHT - 4, width: (WIDTH * node.macs) / most, height: 4 }));
    const title = `${node.op}  ${node.name}`;
    svg.append(make("text", { class: "strong", x: 12, y: top + 17 }, title.length > 46 ? `${title.slice(0, 45)}…` : title));
    const said = [node.output_shape?.slice(1).join(" × "), node.parameters ? `${short(node.parameters)} parameters` : "", node.macs ? `${short(node.macs)} multiply-adds` : ""].filter(Boolean).join(" · ");
    svg.append(make("text", { x: 12, y: top + 33 }, said));
  });
  return svg;
}

ask("GET", `/api/network?name=${encodeURIComponent(place.dataset.name)}`).then(
  (told) => {
    const sum = (key) => told.nodes.reduce((all, node) => all + (node[key] ?? 0), 0);
    document.querySelector("#drawn").textContent = `${told.nodes.length} layers, ${short(sum("parameters"))} parameters, ${short(sum("macs"))} multiply-adds an image. The bar below a layer is its share of the costliest.`;
    place.replaceChildren(drawing(told));
  },
  (error) => {
    document.querySelector("#drawn").textContent = error.message;
  },
);

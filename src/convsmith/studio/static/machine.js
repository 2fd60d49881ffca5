// What the machine is doing, told every two seconds while somebody looks.
import { ask, element, percent, size } from "./page.js";

const place = document.querySelector("#machine");

async function tell() {
  if (document.hidden) return;
  const now = await ask("GET", "/api/machine").catch(() => null);
  if (!now) return;
  const rows = [
    ...now.processors.map((share, index) => [`Processor ${index + 1}`, share, percent(share)]),
    ["Memory", now.memory_used_bytes / now.memory_bytes, `${size(now.memory_used_bytes)} of ${size(now.memory_bytes)}`],
    ["Disk", now.disk_used_bytes / now.disk_bytes, `${size(now.disk_free_bytes)} free`],
    ...now.gpus.map((gpu) => [gpu.name, gpu.used, `${percent(gpu.used)}, ${size(gpu.memory_used_bytes)} of ${size(gpu.memory_bytes)}, ${gpu.temperature_c}\u202f°C`]),
  ];
  if (now.temperature_c !== null) rows.push(["Temperature", now.temperature_c / 100, `${Math.round(now.temperature_c)}\u202f°C`]);
  place.querySelector("dl").replaceChildren(
    ...rows.flatMap(([title, share, text]) => [element("dt", { text: title }), element("dd", {}, element("progress", { max: 1, value: share, "aria-label": title }), element("span", { text }))]),
  );
  place.querySelector("[data-unseen]").textContent = now.unseen.length ? `Not seen: ${now.unseen.join("; ")}.` : "";
  place.hidden = false;
}

export function watch() {
  if (!place) return;
  tell();
  setInterval(tell, 2000);
}

if (!document.querySelector("#run")) watch();

// One sweep: the part below the buttons is fetched again as it is on the server while trials come in.
import { act, address, ask } from "./page.js";

const place = document.querySelector("#run");
const name = place.dataset.name;
const live = document.querySelector("#live");

async function refresh() {
  if (document.hidden) return;
  const response = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (fresh.querySelector("#run")?.dataset.status !== place.dataset.status) location.reload();
  const part = fresh.querySelector("#live");
  if (part && part.innerHTML !== live.innerHTML && !live.contains(document.activeElement)) live.replaceChildren(...part.childNodes);
}

document.querySelector("#resume").addEventListener("click", (event) =>
  act(event.target, async () => {
    const { job } = await ask("POST", `/api/runs/${address(name)}/resume`);
    location.href = `/jobs/${job}`;
  }),
);
if (place.dataset.status === "running") setInterval(refresh, 2000);

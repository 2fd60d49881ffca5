// The table of runs: choose several, abort, delete, compare; the running ones are kept up to date.
import { act, address, ask, say } from "./page.js";

const form = document.querySelector("#chosen");
const boxes = () => [...(form?.querySelectorAll('input[name="run"]') ?? [])];
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.value);

function count() {
  const names = chosen();
  document.querySelector("#count").textContent = names.length ? `${names.length} chosen` : "None chosen";
  for (const button of form.querySelectorAll("[data-each]")) {
    button.disabled = button.dataset.each === "compare" ? names.length !== 2 : !names.length;
  }
  const all = form.querySelector("#all");
  all.checked = names.length > 0 && names.length === boxes().length;
  all.indeterminate = names.length > 0 && !all.checked;
}

async function each(button) {
  const names = chosen();
  const what = button.dataset.each;
  if (what === "compare") {
    location.href = `/compare?a=${address(names[0])}&b=${address(names[1])}`;
    return;
  }
  if (what === "delete" && !confirm(`Delete ${names.length === 1 ? names[0] : `${names.length} runs`} for good?`)) return;
  const group = what === "group" ? prompt("Group of these runs; nothing takes them out of one", "") : undefined;
  if (group === null) return;
  const told = await ask("POST", `/api/runs/${what}`, { names, ...(what === "group" ? { group } : {}) });
  for (const [name, why] of Object.entries(told.failed)) say(`${name}: ${why}`, true);
  if (!Object.keys(told.failed).length) location.reload();
  else setTimeout(() => location.reload(), 4000);
}

form?.addEventListener("change", (event) => {
  if ("column" in event.target.dataset) {
    const shown = [...form.querySelectorAll("[data-column]:checked")].map((box) => box.value).join(".");
    document.cookie = `columns=${shown}; path=/; max-age=31536000; samesite=lax`;
    location.hash = "columns";
    location.reload();
    return;
  }
  if (event.target.id === "all") for (const box of boxes()) box.checked = event.target.checked;
  count();
});
form?.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-each]");
  if (button) act(button, () => each(button)).then(count);
  const stop = event.target.closest("[data-abort]");
  if (stop) act(stop, async () => { await ask("POST", `/api/runs/${address(stop.dataset.abort)}/abort`); say("It is being stopped."); });
});
if (form) count();
if (location.hash === "#columns" && form) form.querySelector("#columns").open = true;

// The live part is fetched again as it is on the server; the table below is left alone, so nothing moves under the pointer.
const live = document.querySelector("#live");
async function refresh() {
  if (document.hidden) return;
  const response = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("#live");
  if (fresh && fresh.innerHTML !== live.innerHTML && !live.contains(document.activeElement)) {
    live.replaceChildren(...fresh.childNodes);
    live.dataset.live = fresh.dataset.live;
  }
}
if (live) setInterval(refresh, Number(live.dataset.live) ? 2500 : 10000);

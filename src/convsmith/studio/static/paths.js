// Paths on the server complete as they are typed; names that are known stay in their own list.
import { ask } from "./page.js";

let waiting;
document.addEventListener("input", (event) => {
  const input = event.target;
  if (!("path" in (input.dataset ?? {})) || !input.value.includes("/")) return;
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const { paths } = await ask("GET", `/api/paths?prefix=${encodeURIComponent(input.value)}`).catch(() => ({ paths: [] }));
    document.querySelector("#paths").replaceChildren(...paths.map((path) => Object.assign(document.createElement("option"), { value: path })));
    input.setAttribute("list", "paths");
  }, 200);
});

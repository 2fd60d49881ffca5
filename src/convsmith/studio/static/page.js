// What every page has: changes through the JSON interface, words about how they went, copying, folded frames.

const proof = document.querySelector('meta[name="proof"]').content;

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.error = error;
  }
}

// Ask the interface. `body`: an object is sent as JSON, a FormData or Blob as it is.
export async function ask(method, address, body, signal) {
  const headers = { "x-csrf-token": proof };
  const raw = body instanceof FormData || body instanceof Blob;
  if (body !== undefined && !raw) headers["content-type"] = "application/json";
  const response = await fetch(address, { method, headers, body: body === undefined || raw ? body : JSON.stringify(body), signal });
  if (response.status === 401) {
    location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, told.error ?? { message: `the studio answered ${response.status}` });
  return told;
}

export function say(text, bad = false) {
  const line = document.createElement("p");
  line.textContent = text;
  if (bad) line.className = "bad";
  document.querySelector("#said").append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 5000);
}

// Run an action of a button: it cannot be pressed twice, and what went wrong is said.
export async function act(button, action) {
  if (button) button.disabled = true;
  try {
    return await action();
  } catch (error) {
    say(error.message, true);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

export const island = (id) => {
  const found = document.getElementById(id);
  return found ? JSON.parse(found.textContent) : null;
};

export const percent = (share) => (share === null || share === undefined ? "" : `${(100 * share).toFixed(1)}\u202f%`);

export const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  while (bytes >= 1000 && index < units.length - 1) {
    bytes /= 1000;
    index += 1;
  }
  return `${index && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)}\u202f${units[index]}`;
};

export const address = (name) => encodeURIComponent(name);

export const element = (name, values = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(values)) {
    if (key === "text") made.textContent = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

// An image of few pixels is better shown as squares than smoothed away.
document.addEventListener("load", ({ target }) => target.tagName === "IMG" && target.naturalWidth <= 32 && target.classList.add("coarse"), true);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.parentElement.querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
    say("Selected; copy it with Ctrl-C.");
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-move-job]");
  if (!button) return;
  act(button, async () => {
    await ask("PUT", `/api/jobs/${button.dataset.moveJob}/priority`, { priority: Number(button.dataset.priority) });
    location.reload();
  });
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-abort-job]");
  if (!button) return;
  act(button, async () => {
    await ask("POST", `/api/jobs/${button.dataset.abortJob}/abort`);
    say("It is being stopped.");
    setTimeout(() => location.reload(), 1200);
  });
});

// Images sent to the server: a folder in batches of files, or a zip archive in one stream that tells how far it is.
import { act, ask, say, size } from "./page.js";

const form = document.querySelector("#upload");
const bar = document.querySelector("#sent");
const words = document.querySelector("#sending");
const stop = document.querySelector("#stop");
const proof = document.querySelector('meta[name="proof"]').content;
const BATCH = 200;
const BATCH_BYTES = 32e6;
let cancelled = null;

function tell(done, all) {
  bar.hidden = false;
  bar.value = all ? done / all : 0;
  words.textContent = `${size(done)} of ${size(all)}`;
}

async function sendFiles(id, files) {
  const all = files.reduce((sum, [, file]) => sum + file.size, 0);
  let done = 0;
  let batch = [];
  let bytes = 0;
  const flush = async () => {
    if (!batch.length) return;
    const body = new FormData();
    for (const [path, file] of batch) {
      body.append("sent", file, "file");
      body.append("paths", path);
    }
    await ask("POST", `/api/uploads/${id}/files`, body, cancelled.signal);
    done += bytes;
    tell(done, all);
    batch = [];
    bytes = 0;
  };
  tell(0, all);
  for (const [path, file] of files) {
    if (batch.length && (batch.length >= BATCH || bytes + file.size > BATCH_BYTES)) await flush();
    batch.push([path, file]);
    bytes += file.size;
  }
  await flush();
}

function sendArchive(id, file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/uploads/${id}/archive`);
    request.setRequestHeader("x-csrf-token", proof);
    request.upload.onprogress = (event) => {
      tell(event.loaded, file.size);
      if (event.loaded === file.size) words.textContent = "Unpacking …";
    };
    request.onload = () => {
      if (request.status === 200) return resolve();
      let message = `the studio answered ${request.status}`;
      try {
        message = JSON.parse(request.responseText).error.message;
      } catch { /* the words above have to do */ }
      return reject(new Error(message));
    };
    request.onerror = () => reject(new Error("the connection broke; nothing was kept"));
    request.onabort = () => reject(new Error("given up; nothing was kept"));
    cancelled.signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

async function send(files, archive, proposed) {
  if (cancelled) return;
  if (!archive && !files.length) {
    say("There is no file in that folder.", true);
    return;
  }
  cancelled = new AbortController();
  stop.hidden = false;
  const { upload } = await ask("POST", "/api/uploads");
  try {
    if (archive) await sendArchive(upload, archive);
    else await sendFiles(upload, files);
    words.textContent = "Putting in place …";
    const { source } = await ask("POST", `/api/uploads/${upload}/finish`, { name: form.name.value.trim() || proposed || "images" });
    location.href = `/images?source=${encodeURIComponent(source)}`;
  } catch (error) {
    await ask("DELETE", `/api/uploads/${upload}`).catch(() => null);
    words.textContent = error.name === "AbortError" ? "Given up; nothing was kept." : error.message;
    bar.hidden = true;
    throw error;
  } finally {
    cancelled = null;
    stop.hidden = true;
  }
}

stop.addEventListener("click", () => cancelled?.abort());
// files may be chosen before this script has run: they count as well
function taken(selector, take) {
  const input = document.querySelector(selector);
  const now = () => input.files.length && act(null, () => take([...input.files]));
  input.addEventListener("change", now);
  now();
}

taken("#folder", (files) => {
  const named = files.map((file) => [file.webkitRelativePath || file.name, file]);
  return send(named, null, named[0][0].split("/")[0]);
});
taken("#zip", ([file]) => send([], file, file.name.replace(/\.zip$/i, "")));

async function walk(entry, path, found) {
  if (entry.isFile) found.push([path + entry.name, await new Promise((resolve, reject) => entry.file(resolve, reject))]);
  else if (entry.isDirectory) {
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) break;
      for (const inner of some) await walk(inner, `${path}${entry.name}/`, found);
    }
  }
}

form.addEventListener("dragover", (event) => {
  event.preventDefault();
  form.classList.add("over");
});
form.addEventListener("dragleave", () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  act(null, async () => {
    const first = entries[0];
    if (entries.length === 1 && first.isFile && /\.zip$/i.test(first.name)) {
      const file = await new Promise((resolve, reject) => first.file(resolve, reject));
      return send([], file, file.name.replace(/\.zip$/i, ""));
    }
    const found = [];
    for (const entry of entries) await walk(entry, "", found);
    return send(found, null, first?.name);
  });
});
form.addEventListener("submit", (event) => event.preventDefault());

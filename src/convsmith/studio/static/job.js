// The page of a job: how far it is, and its run as soon as there is one.
import { address, ask } from "./page.js";

const place = document.querySelector("#job");

async function refresh() {
  const job = await ask("GET", `/api/jobs/${place.dataset.job}`).catch(() => null);
  if (!job) return;
  if (job.status !== place.dataset.status || (job.run ?? "") !== place.dataset.run) {
    location.href = job.run && !new URLSearchParams(location.search).has("stay") && job.active ? `/jobs/${address(job.id)}` : location.href;
    location.reload();
    return;
  }
  const bar = document.querySelector("#progress");
  if (bar && job.progress?.total) {
    bar.value = job.progress.done / job.progress.total;
    document.querySelector("#stage").textContent = `${job.progress.stage} ${Math.round(100 * bar.value)}\u202f%`;
  }
}

if (place.dataset.active) setInterval(refresh, 1500);

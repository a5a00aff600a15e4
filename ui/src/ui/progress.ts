/** The line at the bottom: which node runs, how far it is, how long it will take. */

import { store } from "../app";
import { byId, duration } from "../dom";
import { nodeAt } from "../subgraphs";
import { isTerminal, secondsLeft, type JobView } from "../jobs";

/** How long the result of a finished job stays in sight. */
const LINGER_MS = 5_000;

function nodeName(id: string | undefined): string {
  if (id === undefined) return "";
  return nodeAt(id)?.title ?? `node ${id}`;
}

function runningText(job: JobView): string {
  const node = job.currentNode === undefined ? undefined : job.nodes.get(job.currentNode);
  const step = node?.progress ? `, step ${node.progress.value} of ${node.progress.max}` : "";
  const nodes = job.nodesTotal > 0 ? ` (${Math.min(job.nodesDone, job.nodesTotal)} of ${job.nodesTotal} nodes done)` : "";
  return `${nodeName(job.currentNode) || "Starting"}${step}${nodes}`;
}

function endText(job: JobView): string {
  const start = job.startedAtMs ?? job.createdAtMs;
  const took = start !== undefined && job.finishedAtMs !== undefined ? job.finishedAtMs - start : undefined;
  const time = took === undefined ? "" : ` in ${took < 10_000 ? `${(took / 1000).toFixed(1)} s` : duration(took / 1000)}`;
  if (job.status === "completed") return `Done${time}`;
  if (job.status === "cancelled") return "Cancelled";
  return `Failed: ${job.error?.message ?? "no reason given"}`;
}

/** The share of the whole job that is done: whole nodes plus the part of the running one. */
export function share(job: JobView): number {
  if (job.status === "completed") return 1;
  const current = job.currentNode === undefined ? undefined : job.nodes.get(job.currentNode);
  const part = current?.progress ? current.progress.value / Math.max(1, current.progress.max) : 0;
  // The sampler takes nearly all the time, so its steps fill the bar while it runs.
  if (current?.progress) return part;
  return job.nodesTotal > 0 ? Math.min(1, job.nodesDone / job.nodesTotal) * 0.1 : 0;
}

let hideTimer: number | undefined;
let shownEnd: string | undefined;

function render(): void {
  const job = store.paintedJob();
  const footer = byId("progress");
  if (!job) {
    footer.hidden = true;
    return;
  }
  footer.dataset.status = job.status;
  const left = byId("progress-left");
  left.textContent = "";
  if (isTerminal(job.status)) {
    byId("progress-text").textContent = endText(job);
    byId<HTMLProgressElement>("progress-bar").value = job.status === "completed" ? 1 : share(job);
    if (shownEnd === job.id) return;
    shownEnd = job.id;
    window.clearTimeout(hideTimer);
    hideTimer = window.setTimeout(() => (footer.hidden = true), LINGER_MS);
    return;
  }
  window.clearTimeout(hideTimer);
  footer.hidden = false;
  if (job.status === "queued") {
    byId("progress-text").textContent = "Waiting in the queue";
    byId<HTMLProgressElement>("progress-bar").value = 0;
    return;
  }
  byId("progress-text").textContent = runningText(job);
  byId<HTMLProgressElement>("progress-bar").value = share(job);
  const node = job.currentNode === undefined ? undefined : job.nodes.get(job.currentNode);
  const seconds = secondsLeft(node?.progress, Date.now());
  if (seconds !== undefined) left.textContent = seconds < 1 ? "less than 1 s left" : `about ${duration(seconds)} left`;
}

export function startProgress(): void {
  store.on("jobs", render);
  // The time left runs down between events too.
  window.setInterval(() => {
    const job = store.paintedJob();
    if (job && !isTerminal(job.status)) render();
  }, 1_000);
}

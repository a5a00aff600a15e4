/** How jobs are called and described in lists. */

import { duration } from "./dom";
import type { JobView } from "./jobs";

/** The place in the queue is no name: it changes when jobs are moved. */
export function jobName({ ordinal }: Pick<JobView, "ordinal">): string {
  return ordinal === undefined ? "Job" : `Job ${ordinal}`;
}

export function took(job: JobView): string | undefined {
  const { startedAtMs, finishedAtMs } = job;
  if (startedAtMs === undefined || finishedAtMs === undefined) return undefined;
  return timeText(finishedAtMs - startedAtMs);
}

export function timeText(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms / 1000);
}

/** The time of day, with the date unless it is today. */
export function when(atMs: number | undefined): string {
  if (atMs === undefined) return "";
  const date = new Date(atMs);
  const clock = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock : `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${clock}`;
}

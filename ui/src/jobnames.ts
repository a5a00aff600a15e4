/** How jobs are called and described in lists. */

import { duration } from "./dom";
import type { JobView } from "./jobs";

/** Jobs that were moved have numbers between those of others, which are no names. */
export function jobName(job: Pick<JobView, "number">): string {
  return Number.isInteger(job.number) && job.number >= 0 ? `Job ${job.number}` : "Moved job";
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

/** Moving and removing jobs that wait. */

import { api } from "./api";
import { store } from "./app";
import type { JobView } from "./jobs";
import { toast } from "./ui/toasts";

/** The jobs that wait, in the order in which they will run. */
export function waiting(): JobView[] {
  return [...store.jobs.values()].filter(({ status }) => status === "queued").sort((a, b) => a.number - b.number);
}

/** The job before which one has to be put so that it comes to stand at `index` of the others. */
export function neighbour(ids: readonly string[], id: string, index: number): string | null {
  return ids.filter((other) => other !== id)[index] ?? null;
}

/** Moves a waiting job before another one, or to the end. The gateway refuses it once the job has begun. */
export async function moveJob(id: string, before: string | null): Promise<void> {
  try {
    store.snapshot(await api.move(id, before));
  } catch (error) {
    toast("error", `The job was not moved: ${(error as Error).message}`);
  }
}

export async function removeJobs(ids: string[]): Promise<void> {
  try {
    await api.dequeue(ids);
  } catch (error) {
    toast("error", `The queue was not changed: ${(error as Error).message}`);
  }
}

/** Moving and removing jobs that wait. The gateway keeps places as numbers, so a moved job is handed in anew. */

import { api, type QueueItem } from "./api";
import { store } from "./app";
import { markQueued } from "./jobs";
import { toast } from "./ui/toasts";

/** The number that puts the job at `index` before the one ahead of it, or before all. */
export function newPlace(numbers: readonly number[], index: number, to: "front" | "up"): number | undefined {
  const first = numbers[0];
  const ahead = numbers[index - 1];
  if (first === undefined || ahead === undefined) return undefined;
  const beyond = numbers[index - 2];
  return to === "front" || beyond === undefined ? first - 1 : (beyond + ahead) / 2;
}

async function handInAgain([, id, graph, extra, outputs]: QueueItem, number: number): Promise<void> {
  const reply = await api.enqueue({ prompt: graph, extra_data: extra, number, partial_execution_targets: outputs });
  if (store.isOwn(id)) store.addOwn(reply.prompt_id);
  const job = store.job(reply.prompt_id);
  job.number = reply.number;
  if (job.status === "queued") markQueued(job, [...store.job(id).nodes.keys()]);
}

/** Moves a waiting job ahead. One that began meanwhile is left alone. */
export async function moveJob(id: string, to: "front" | "up"): Promise<void> {
  try {
    const pending = (await api.queue()).queue_pending.sort(([a], [b]) => a - b);
    const index = pending.findIndex(([, known]) => known === id);
    const item = pending[index];
    const number = newPlace(pending.map(([place]) => place), index, to);
    if (!item || number === undefined) return;
    await api.dequeue([id]);
    if ((await api.job(id)).status !== "cancelled") return toast("info", "The job has begun already.");
    await handInAgain(item, number);
    await api.forget(id);
    store.forget(id);
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

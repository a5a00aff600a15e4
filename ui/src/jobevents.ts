/** The history of one job, followed to its end. */

import { withoutNulls } from "./api";
import { parse } from "./bigjson";
import type { JobEvent } from "./jobs";
import { SseParser } from "./sse";

/** Calls `onEvent` for every event of a job; resolves when the job has ended. */
export async function readEvents(id: string, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<void> {
  const reply = await fetch(`/v1/events?job_id=${encodeURIComponent(id)}&after=0`, { signal, headers: { accept: "text/event-stream" } });
  if (!reply.ok || !reply.body) throw new Error(`HTTP ${reply.status}`);
  const parser = new SseParser();
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const { data } of parser.push(value)) onEvent(withoutNulls(parse(data)) as JobEvent);
  }
}

/** Keeps the store in step with the gateway: catalog, events, and resync after a loss. */

import { api, ApiError, withoutNulls, type Checkpoint } from "./api";
import { graph, store } from "./app";
import { parse } from "./bigjson";
import { ended } from "./ended";
import { isTerminal, type JobEvent } from "./jobs";
import { ComfyNode, registerNodes } from "./nodes";
import { EventStream, type StreamHandlers } from "./sse";
import { everyNode } from "./subgraphs";
import { toast } from "./ui/toasts";
import { repairCheckpoints, show } from "./workflow";

let stream: EventStream | undefined;

const GALLERY_JOBS = 60;
const CATALOG_RETRY_MS = 2_000;

/** Reads nodes and checkpoints. The gateway may answer before its stages do. */
export async function readCatalog(): Promise<void> {
  const [nodes, checkpoints] = await Promise.all([api.nodes(), api.checkpoints()]);
  store.specs = new Map(nodes.map((spec) => [spec.class, spec]));
  store.checkpoints = checkpoints.checkpoints;
  store.note = checkpoints.note ?? onlyNote(checkpoints.checkpoints);
  registerNodes(nodes, graph);
  store.emit("catalog");
}

/** What the gateway says about the one checkpoint there is. */
function onlyNote(checkpoints: Checkpoint[]): string | undefined {
  const usable = checkpoints.filter((checkpoint) => checkpoint.usable);
  return usable.length === 1 ? usable[0]?.note : undefined;
}

/** Reads the catalog again; nodes that were unknown come alive if they now exist. */
export async function refresh(): Promise<void> {
  try {
    await readCatalog();
  } catch (error) {
    toast("error", `The node list could not be read: ${(error as Error).message}`);
    return;
  }
  const waiting = everyNode().some(
    (node) => node instanceof ComfyNode && !node.spec && store.specs.has(String(node.type)),
  );
  if (waiting) show(parse(JSON.stringify(graph.serialize())));
  else repairCheckpoints();
  store.emit("graph");
  void resync();
}

async function readSystem(): Promise<void> {
  try {
    store.system = await api.system();
  } catch {
    store.system = undefined;
  }
  store.emit("connection");
}

const FRESH_MS = 10_000;

/** Who comes back to the page may have put a model file in place meanwhile. */
function refreshOnReturn(): void {
  let left = Date.now();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) left = Date.now();
    else if (Date.now() - left > FRESH_MS && store.connection === "open") void refresh();
  });
}

const SYSTEM_EVERY_MS = 15_000;

const serving = (): string =>
  (store.system?.services ?? []).flatMap(({ name, status }) => (status === "serving" ? [name] : [])).join();

/** Looks after the services while the page is in sight; one that came or went may change the nodes. */
export function watchServices(): void {
  refreshOnReturn();
  window.setInterval(() => {
    if (document.hidden || store.connection !== "open") return;
    const before = serving();
    void readSystem().then(() => {
      if (before !== "" && serving() !== before) void refresh();
    });
  }, SYSTEM_EVERY_MS);
}

const MISSING_TRIES = 20;
const MISSING_RETRY_MS = 3_000;

/** Services start one after another: nodes still unknown are looked for again for a minute. */
export async function awaitMissingNodes(): Promise<void> {
  const missing = (): boolean =>
    everyNode().some((node) => node instanceof ComfyNode && !node.spec && node.has_errors === true);
  for (let tries = 0; tries < MISSING_TRIES && missing(); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, MISSING_RETRY_MS));
    if (missing()) await refresh();
  }
}

/** Waits for a catalog with nodes in it. */
export async function firstCatalog(): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      await readCatalog();
      if (store.specs.size > 0) return;
      if (tries === 0) toast("info", "No service offers nodes yet; waiting for them to start.");
    } catch (error) {
      if (tries === 0) toast("error", `The node list could not be read: ${(error as Error).message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, CATALOG_RETRY_MS));
  }
}

async function readJob(id: string): Promise<void> {
  try {
    store.snapshot(await api.job(id));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    store.forget(id);
  }
}

/** Brings every job the page may have missed news of up to date. */
export async function resync(): Promise<void> {
  void readSystem();
  try {
    const recent = await api.jobs(GALLERY_JOBS);
    if (recent.length === 0 && stream?.position !== undefined && store.ownIds().length > 0) {
      // The server knows none of our jobs: its history is gone, and so is our place in it.
      store.jobs.clear();
      store.forgetOwn();
      return stream.restart();
    }
    for (const job of recent) store.snapshot(job);
    const seen = new Set(recent.map(({ id }) => id));
    const open = [...store.jobs.values()].filter((job) => !isTerminal(job.status) && !seen.has(job.id));
    const unseen = store.ownIds().filter((id) => !store.jobs.has(id));
    for (const id of [...open.map((job) => job.id), ...unseen]) await readJob(id);
  } catch {
    // The orchestrator may be away while the stream is open; the next refresh tries again.
  }
}

function onEvent(data: string): void {
  const event = withoutNulls(parse(data)) as JobEvent;
  if (store.event(event)) ended(store.job(event.job_id));
}

export function startEvents(): void {
  let wasLost = false;
  const handlers: StreamHandlers = {
    onMessage: ({ data }) => onEvent(data),
    onState: (state) => {
      if (state === "open" && wasLost) {
        toast("good", "Connected again.");
        if (store.specs.size > 0) void refresh();
      }
      if (state === "lost" && store.connection === "open") {
        toast("warn", "The connection to the gateway was lost; trying again.");
      }
      wasLost = state === "lost" || (wasLost && state !== "open");
      store.connection = state;
      store.emit("connection");
      if (state === "open") void resync();
    },
  };
  const resume = store.ownIds().length > 0 ? store.markedPosition() : undefined;
  stream = new EventStream("/v1/events", handlers, resume);
  window.addEventListener("online", () => stream?.retryNow());
}

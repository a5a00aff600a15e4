/** What the page knows about each job, folded from events and snapshots. Pure: no DOM, no network. */

import type { ImageRef, Job, JobError, JobOutput, JobStatus } from "./api";

export type Phase = "queued" | "running" | "cached" | "done" | "failed";

export interface Progress {
  value: number;
  max: number;
  /** The first step seen and when, from which the time per step follows. */
  firstValue: number;
  firstAtMs: number;
  lastAtMs: number;
}

export interface NodeState {
  phase: Phase;
  startedAtMs?: number;
  finishedAtMs?: number;
  progress?: Progress;
  /** A data URL of the picture so far, while sampling. */
  preview?: string;
  images: ImageRef[];
  texts: string[];
  error?: string;
}

export interface JobView {
  id: string;
  status: JobStatus;
  /** Its place in the queue. */
  number: number;
  /** How many jobs there have been up to this one: what it is called. */
  ordinal?: number;
  nodes: Map<string, NodeState>;
  nodesTotal: number;
  nodesDone: number;
  currentNode?: string;
  outputs: JobOutput[];
  error?: JobError;
  createdAtMs?: number;
  startedAtMs?: number;
  finishedAtMs?: number;
  /** The first durable event seen. */
  firstSeq?: number;
  /** The last durable event folded in; replays at or before it are dropped. */
  lastSeq: number;
}

/** One event of `/v1/events`. */
export interface JobEvent {
  seq?: number;
  job_id: string;
  at_ms?: number;
  kind: string;
  node_id?: string;
  class_type?: string;
  nodes?: string[];
  value?: number;
  max?: number;
  mime?: string;
  data?: string;
  ui?: { images?: ImageRef[]; text?: string[] | string };
  stage?: string;
  peak_bytes?: number;
  error?: JobError | string;
  number?: number;
  ordinal?: number;
}

const EPHEMERAL = new Set(["node_progress", "preview"]);

export function isTerminal(status: JobStatus): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}

export function newJob(id: string, number = 0): JobView {
  return {
    id,
    status: "queued",
    number,
    nodes: new Map(),
    nodesTotal: 0,
    nodesDone: 0,
    outputs: [],
    lastSeq: -1,
  };
}

function nodeOf(job: JobView, nodeId: string): NodeState {
  let state = job.nodes.get(nodeId);
  if (!state) {
    state = { phase: "queued", images: [], texts: [] };
    job.nodes.set(nodeId, state);
  }
  return state;
}

/** The node itself and every subgraph that holds it: `5:12` also shows on `5`. */
function statesOf(job: JobView, nodeId: string): NodeState[] {
  const parts = nodeId.split(":");
  return parts.map((_, depth) => nodeOf(job, parts.slice(0, depth + 1).join(":")));
}

/** Marks the nodes of a workflow just handed in as waiting. */
export function markQueued(job: JobView, nodeIds: Iterable<string>): void {
  for (const id of nodeIds) nodeOf(job, id);
  job.nodesTotal = Math.max(job.nodesTotal, job.nodes.size);
}

function toError(error: JobEvent["error"]): JobError {
  if (typeof error === "string") return { code: "failed", message: error };
  return error ?? { code: "failed", message: "the job failed" };
}

function finish(job: JobView, status: JobStatus, atMs: number): void {
  job.status = status;
  job.finishedAtMs ??= atMs;
  job.currentNode = undefined;
  for (const [id, node] of job.nodes) {
    node.preview = undefined;
    if (node.phase === "running" && status === "completed") node.phase = "done";
    // Nodes that never started have nothing to show once the job is over.
    else if (node.phase === "queued" || node.phase === "running") job.nodes.delete(id);
  }
}

function fail(job: JobView, error: JobError, atMs: number): void {
  job.error = error;
  const failed = error.node_id ?? job.currentNode;
  for (const node of failed === undefined ? [] : statesOf(job, failed)) {
    node.phase = "failed";
    node.error = error.message;
    node.finishedAtMs = atMs;
  }
  finish(job, "failed", atMs);
}

function progressed(node: NodeState, value: number, max: number, nowMs: number): void {
  const known = node.progress;
  const restarted = !known || known.max !== max || value < known.value;
  node.progress = restarted
    ? { value, max, firstValue: value, firstAtMs: nowMs, lastAtMs: nowMs }
    : { ...known, value, lastAtMs: nowMs };
}

/** Counts from what is known, so that replays after a snapshot count nothing twice. */
function recount(job: JobView): void {
  // A subgraph stands for the nodes in it and is not counted beside them.
  const holders = new Set([...job.nodes.keys()].map((id) => id.slice(0, Math.max(0, id.lastIndexOf(":")))));
  let done = 0;
  for (const [id, { phase }] of job.nodes) {
    if (!holders.has(id) && (phase === "done" || phase === "cached")) done += 1;
  }
  job.nodesDone = Math.max(job.nodesDone, done);
}

function nodeDone(job: JobView, event: JobEvent, nowMs: number): void {
  if (event.node_id === undefined) return;
  const images = event.ui?.images ?? [];
  const texts = [event.ui?.text ?? []].flat();
  for (const node of statesOf(job, event.node_id)) {
    // A cached node also reports done, with the pictures it made before.
    if (node.phase !== "cached") node.phase = "done";
    node.preview = undefined;
    node.finishedAtMs = event.at_ms ?? nowMs;
    if (images.length > 0) node.images = images;
    if (texts.length > 0) node.texts = texts;
  }
  recount(job);
  if (images.length === 0) return;
  const others = job.outputs.filter((output) => output.node_id !== event.node_id);
  const nodeId = event.node_id;
  job.outputs = [...others, ...images.map((image) => ({ ...image, node_id: nodeId }))];
}

/** Folds one event into a job. Returns `false` when it changed nothing (a replay, or after the end). */
export function applyEvent(job: JobView, event: JobEvent, nowMs: number): boolean {
  const atMs = event.at_ms ?? nowMs;
  if (!EPHEMERAL.has(event.kind) && event.seq !== undefined) {
    if (event.seq <= job.lastSeq) return false;
    job.lastSeq = event.seq;
    job.firstSeq ??= event.seq;
  }
  if (isTerminal(job.status)) return false;
  const nodes = event.node_id === undefined ? [] : statesOf(job, event.node_id);
  switch (event.kind) {
    case "queued":
      job.createdAtMs = atMs;
      job.ordinal = event.ordinal ?? job.ordinal;
      if (event.number !== undefined) job.number = event.number;
      return true;
    case "moved":
      job.number = event.number ?? job.number;
      return true;
    case "started":
      job.status = "running";
      job.startedAtMs ??= atMs;
      return true;
    case "cached":
      for (const id of event.nodes ?? []) for (const node of statesOf(job, id)) node.phase = "cached";
      recount(job);
      return true;
    case "node_started":
      job.status = "running";
      job.currentNode = event.node_id;
      for (const node of nodes) Object.assign(node, { phase: "running", startedAtMs: atMs, progress: undefined });
      return true;
    case "node_progress":
      if (event.value === undefined || event.max === undefined) return false;
      job.status = "running";
      job.currentNode = event.node_id;
      for (const node of nodes) {
        node.phase = "running";
        progressed(node, event.value, event.max, nowMs);
      }
      return true;
    case "preview":
      if (!event.data) return false;
      for (const node of nodes) node.preview = `data:${event.mime ?? "image/jpeg"};base64,${event.data}`;
      return true;
    case "node_done":
      nodeDone(job, event, nowMs);
      return true;
    case "failed":
      fail(job, toError(event.error), atMs);
      return true;
    case "cancelled":
      finish(job, "cancelled", atMs);
      return true;
    case "succeeded":
      finish(job, "completed", atMs);
      return true;
    default:
      return false;
  }
}

function mergeOutputs(job: JobView, outputs: JobOutput[]): void {
  job.outputs = outputs;
  const byNode = new Map<string, ImageRef[]>();
  for (const { node_id, filename, subfolder, type } of outputs) {
    byNode.set(node_id, [...(byNode.get(node_id) ?? []), { filename, subfolder, type }]);
  }
  for (const [id, images] of byNode) {
    for (const node of statesOf(job, id)) showed(node).images = images;
  }
}

/** What shows something has been run. */
function showed(node: NodeState): NodeState {
  if (node.phase === "queued" || node.phase === "running") node.phase = "done";
  return node;
}

/** Folds a snapshot of `/v1/jobs/:id` into a job: it wins over everything seen before. */
export function applySnapshot(job: JobView, snapshot: Job, nowMs: number): void {
  const wasTerminal = isTerminal(job.status);
  job.number = snapshot.number;
  job.ordinal = snapshot.ordinal ?? job.ordinal;
  job.nodesTotal = snapshot.nodes_total;
  job.nodesDone = snapshot.nodes_done;
  job.createdAtMs = snapshot.created_at_ms;
  job.startedAtMs = snapshot.started_at_ms;
  job.finishedAtMs = snapshot.finished_at_ms;
  if (snapshot.outputs?.length > 0) mergeOutputs(job, snapshot.outputs);
  for (const { node_id, text } of snapshot.texts ?? []) {
    for (const node of statesOf(job, node_id)) showed(node).texts = text;
  }
  if (wasTerminal) return;
  if (snapshot.status === "failed") {
    fail(job, toError(snapshot.error), snapshot.finished_at_ms ?? nowMs);
  } else if (isTerminal(snapshot.status)) {
    finish(job, snapshot.status, snapshot.finished_at_ms ?? nowMs);
  } else {
    job.status = snapshot.status;
    job.currentNode = snapshot.current_node;
    const current = snapshot.current_node === undefined ? [] : statesOf(job, snapshot.current_node);
    for (const node of current) node.phase = "running";
    if (snapshot.progress) {
      const { node_id, value, max } = snapshot.progress;
      for (const node of statesOf(job, node_id)) progressed(node, value, max, nowMs);
    }
  }
}

/** A node was edited after it failed: what the job said of it no longer holds. */
export function forgetFailure(job: JobView, nodeId: string): boolean {
  if (!isTerminal(job.status) || job.nodes.get(nodeId)?.phase !== "failed") return false;
  job.nodes.delete(nodeId);
  return true;
}

/** Seconds until the running node is through its steps, or `undefined` before two were seen. */
export function secondsLeft(progress: Progress | undefined, nowMs: number): number | undefined {
  if (!progress) return undefined;
  const steps = progress.value - progress.firstValue;
  if (steps <= 0) return undefined;
  const perStepMs = (progress.lastAtMs - progress.firstAtMs) / steps;
  const leftMs = perStepMs * (progress.max - progress.value) - (nowMs - progress.lastAtMs);
  return Math.max(0, leftMs / 1000);
}

/** The one store of the page: what the gateway said, and who wants to hear of changes. */

import type { Checkpoint, Job, NodeErrors, NodeSpec, SystemInfo } from "./api";
import { applyEvent, applySnapshot, forgetFailure, isTerminal, newJob, type JobEvent, type JobView } from "./jobs";
import type { StreamState } from "./sse";

export type Topic = "catalog" | "connection" | "jobs" | "problems" | "selection" | "graph" | "workflow";

/** One message about a workflow, tied to a node where the gateway says which. */
export interface Problem {
  nodeId?: string;
  input?: string;
  title: string;
  text: string;
}

/** Jobs handed in from this page, so that only their states are painted on the nodes. */
const OWN_KEY = "comfy.ownJobs";
const OWN_KEPT = 20;
/** Where the event stream stood before the oldest open job: a reload replays from there. */
const POSITION_KEY = "comfy.eventPosition";
/** Finished jobs held for the gallery; older ones stay on the server. */
const JOBS_KEPT = 200;

export class Store {
  specs = new Map<string, NodeSpec>();
  checkpoints: Checkpoint[] = [];
  note: string | undefined;
  system: SystemInfo | undefined;
  connection: StreamState = "connecting";

  jobs = new Map<string, JobView>();
  problems: Problem[] = [];
  /** The page itself changes the canvas, as when it loads a workflow: nothing then was edited by hand. */
  loading = false;
  private own: string[] = readOwn();
  /** Jobs taken away here, of which late news may still come. */
  private gone = new Set<string>();
  private listeners = new Map<Topic, Set<() => void>>();
  private pending = new Set<Topic>();

  /** Calls `listener` after changes of a topic; what it returns ends that. */
  on(topic: Topic, listener: () => void): () => void {
    const set = this.listeners.get(topic) ?? new Set();
    set.add(listener);
    this.listeners.set(topic, set);
    return () => void set.delete(listener);
  }

  /** Tells listeners once per frame, however many changes came in. */
  emit(topic: Topic): void {
    if (this.pending.size === 0) queueMicrotask(() => this.flush());
    this.pending.add(topic);
  }

  private flush(): void {
    const topics = [...this.pending];
    this.pending.clear();
    for (const topic of topics) this.listeners.get(topic)?.forEach((listener) => listener());
  }

  /** The picture of a checkpoint, where it has one. */
  coverOf(name: string): string | undefined {
    return this.checkpoints.find((checkpoint) => checkpoint.name === name)?.cover;
  }

  job(id: string): JobView {
    let job = this.jobs.get(id);
    if (!job) {
      job = newJob(id);
      this.jobs.set(id, job);
      this.prune();
    }
    return job;
  }

  /** Folds an event in; `true` when it brought one of this page's jobs to its end. */
  event(event: JobEvent): boolean {
    if (this.gone.has(event.job_id)) return false;
    const job = this.job(event.job_id);
    const wasTerminal = isTerminal(job.status);
    if (!applyEvent(job, event, Date.now())) return false;
    this.emit("jobs");
    if (this.isOwn(job.id) && event.kind !== "node_progress" && event.kind !== "preview") this.markPosition();
    return !wasTerminal && isTerminal(job.status) && this.isOwn(job.id);
  }

  snapshot(job: Job): void {
    if (this.gone.has(job.id)) return;
    applySnapshot(this.job(job.id), job, Date.now());
    this.emit("jobs");
  }

  isOwn(id: string): boolean {
    return this.own.includes(id);
  }

  addOwn(id: string): void {
    this.own = [...this.own.filter((known) => known !== id), id].slice(-OWN_KEPT);
    this.saveOwn();
    this.markPosition();
  }

  private markPosition(): void {
    const open = this.own.map((id) => this.jobs.get(id)).filter((job) => job && !isTerminal(job.status));
    const starts = open.map((job) => job?.firstSeq).filter((seq) => seq !== undefined);
    try {
      sessionStorage.setItem(POSITION_KEY, starts.length > 0 ? String(Math.min(...starts) - 1) : "");
    } catch {
      // A reload then shows the job from its snapshot alone.
    }
  }

  markedPosition(): string | undefined {
    try {
      return sessionStorage.getItem(POSITION_KEY) || undefined;
    } catch {
      return undefined;
    }
  }

  ownIds(): readonly string[] {
    return this.own;
  }

  /** Another workflow is on the canvas: earlier jobs say nothing about its nodes. */
  forgetOwn(): void {
    this.own = [];
    this.saveOwn();
    this.emit("jobs");
  }

  /** The canvas shows the workflow of this job, so its states belong on the nodes. */
  adopt(id: string): void {
    this.own = [id];
    this.saveOwn();
    this.emit("jobs");
  }

  /** The server knows nothing of this job any more. */
  forget(id: string): void {
    this.gone.add(id);
    this.jobs.delete(id);
    this.own = this.own.filter((known) => known !== id);
    this.saveOwn();
    this.emit("jobs");
  }

  /** A new attempt was refused: what earlier jobs painted no longer describes the workflow. */
  forgetFinished(): void {
    this.own = this.own.filter((id) => !isTerminal(this.job(id).status));
    this.saveOwn();
    this.emit("jobs");
  }

  private saveOwn(): void {
    try {
      sessionStorage.setItem(OWN_KEY, JSON.stringify(this.own));
    } catch {
      // Without storage the page only forgets its jobs at a reload.
    }
  }

  /** The job whose states are on the canvas: the running one, else the newest. */
  paintedJob(): JobView | undefined {
    const own = this.own.map((id) => this.jobs.get(id)).filter((job) => job !== undefined);
    return own.find((job) => job.status === "running") ?? own.at(-1);
  }

  /** The job that Cancel stops: the running one of this page, else its oldest waiting one. */
  cancellable(): JobView | undefined {
    const own = this.own.map((id) => this.jobs.get(id)).filter((job) => job !== undefined);
    return (
      own.find((job) => job.status === "running") ?? own.find((job) => job.status === "queued")
    );
  }

  queueSize(): { running: number; queued: number } {
    let running = 0;
    let queued = 0;
    for (const job of this.jobs.values()) {
      if (job.status === "running") running += 1;
      else if (job.status === "queued") queued += 1;
    }
    return { running, queued };
  }

  /** An edited node gets another chance: its failure and its problems go. */
  edited(nodeId: string): void {
    if (this.loading) return;
    const job = this.paintedJob();
    if (job && forgetFailure(job, nodeId)) this.emit("jobs");
    const left = this.problems.filter((problem) => problem.nodeId !== nodeId);
    if (left.length !== this.problems.length) this.setProblems(left);
  }

  setProblems(problems: Problem[]): void {
    this.problems = problems;
    this.emit("problems");
  }

  private prune(): void {
    if (this.jobs.size <= JOBS_KEPT) return;
    const old = [...this.jobs.values()].filter((job) => isTerminal(job.status) && !this.isOwn(job.id));
    old.sort((a, b) => (a.createdAtMs ?? 0) - (b.createdAtMs ?? 0));
    for (const { id } of old.slice(0, this.jobs.size - JOBS_KEPT)) this.jobs.delete(id);
  }
}

function readOwn(): string[] {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(OWN_KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/** Flattens `node_errors` into lines for the panel and the nodes. */
export function toProblems(errors: NodeErrors): Problem[] {
  return Object.entries(errors).flatMap(([nodeId, entry]) =>
    entry.errors.map((error) => ({
      nodeId,
      input: error.extra_info?.input_name,
      title: entry.class_type ?? `node ${nodeId}`,
      text: error.details ? `${error.message}: ${error.details}` : error.message,
    })),
  );
}

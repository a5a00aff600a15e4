import { describe, expect, test } from "vitest";
import type { Job } from "../src/api";
import { applyEvent, applySnapshot, markQueued, newJob, secondsLeft, type JobEvent, type JobView } from "../src/jobs";

let seq = 0;
const event = (kind: string, extra: Partial<JobEvent> = {}): JobEvent => ({ seq: ++seq, job_id: "j", at_ms: seq * 1000, kind, ...extra });
const feed = (job: JobView, ...events: JobEvent[]): JobView => {
  for (const one of events) applyEvent(job, one, one.at_ms ?? 0);
  return job;
};
const phases = (job: JobView) => Object.fromEntries([...job.nodes].map(([id, node]) => [id, node.phase]));
const started = (...nodes: string[]): JobView => {
  const job = newJob("j");
  markQueued(job, nodes);
  return feed(job, event("queued"), event("started"));
};

describe("events", () => {
  test("a job goes from queued over cached, running and done to completed", () => {
    const job = started("1", "2", "3");
    expect(phases(job)).toEqual({ 1: "queued", 2: "queued", 3: "queued" });
    feed(job, event("cached", { nodes: ["1"] }), event("node_started", { node_id: "2" }));
    feed(job, event("node_progress", { node_id: "2", value: 1, max: 4 }));
    expect(phases(job)).toEqual({ 1: "cached", 2: "running", 3: "queued" });
    expect(job.nodes.get("2")?.progress).toMatchObject({ value: 1, max: 4 });
    const image = { filename: "a.png", subfolder: "", type: "output" };
    feed(job, event("node_done", { node_id: "2" }), event("node_started", { node_id: "3" }));
    feed(job, event("node_done", { node_id: "3", ui: { images: [image] } }), event("succeeded"));
    expect(phases(job)).toEqual({ 1: "cached", 2: "done", 3: "done" });
    expect(job).toMatchObject({ status: "completed", nodesDone: 3, outputs: [{ ...image, node_id: "3" }] });
  });

  test("a replayed event changes nothing", () => {
    const job = started("1");
    const start = event("node_started", { node_id: "1" });
    const done = event("node_done", { node_id: "1" });
    feed(job, start, done);
    expect(applyEvent(job, start, 0)).toBe(false);
    expect(applyEvent(job, done, 0)).toBe(false);
    expect(phases(job)).toEqual({ 1: "done" });
    expect(job.nodesDone).toBe(1);
  });

  test("nothing comes after the end", () => {
    const job = feed(started("1"), event("cancelled"));
    expect(applyEvent(job, event("node_started", { node_id: "1" }), 0)).toBe(false);
    expect(job.status).toBe("cancelled");
    expect(phases(job)).toEqual({});
  });

  test("a failure stays on its node and clears those that never ran", () => {
    const job = feed(started("1", "2", "3"), event("node_started", { node_id: "2" }));
    feed(job, event("preview", { node_id: "2", mime: "image/png", data: "AA==" }));
    expect(job.nodes.get("2")?.preview).toBe("data:image/png;base64,AA==");
    feed(job, event("failed", { error: { code: "internal", message: "no memory", node_id: "2" } }));
    expect(phases(job)).toEqual({ 2: "failed" });
    expect(job.nodes.get("2")).toMatchObject({ error: "no memory", preview: undefined });
  });

  test("nodes inside a subgraph show on the node that holds them", () => {
    const job = feed(started("5"), event("node_started", { node_id: "5:12" }));
    expect(phases(job)).toEqual({ 5: "running", "5:12": "running" });
  });

  test("what a node says in words stays on it, from events and from snapshots", () => {
    const job = feed(started("1"), event("node_started", { node_id: "1" }), event("node_done", { node_id: "1", ui: { text: ["a", "b"] } }));
    expect(job.nodes.get("1")?.texts).toEqual(["a", "b"]);
    feed(job, event("node_done", { node_id: "5:2", ui: { text: "alone" } }));
    expect(job.nodes.get("5:2")?.texts).toEqual(["alone"]);
    const late = newJob("j");
    const texts = [{ node_id: "1", text: ["a"] }];
    applySnapshot(late, { id: "j", status: "completed", number: 1, ordinal: 7, nodes_total: 1, nodes_done: 1, outputs: [], texts }, 0);
    expect(late.nodes.get("1")).toMatchObject({ phase: "done", texts: ["a"] });
    expect(late.ordinal).toBe(7);
  });

  test("a moved job keeps its name and the time it was handed in", () => {
    const job = feed(newJob("j"), event("queued", { number: 3, ordinal: 4 }));
    const created = job.createdAtMs;
    feed(job, event("moved", { number: 1.5 }));
    expect(job).toMatchObject({ number: 1.5, ordinal: 4, createdAtMs: created, status: "queued" });
  });
});

describe("snapshots", () => {
  const snapshot = (extra: Partial<Job>): Job => ({ id: "j", status: "running", number: 4, nodes_total: 3, nodes_done: 1, outputs: [], ...extra });

  test("a running job shows where it is", () => {
    const job = started("1", "2");
    applySnapshot(job, snapshot({ current_node: "2", progress: { node_id: "2", value: 3, max: 9 } }), 0);
    expect(phases(job)).toEqual({ 1: "queued", 2: "running" });
    expect(job).toMatchObject({ number: 4, nodesTotal: 3, nodesDone: 1 });
  });

  test("a job that ended unseen brings its pictures", () => {
    const job = started("1", "2");
    const output = { node_id: "2", filename: "a.png", subfolder: "", type: "output" as const };
    applySnapshot(job, snapshot({ status: "completed", outputs: [output] }), 0);
    expect(job.status).toBe("completed");
    expect(job.nodes.get("2")).toMatchObject({ phase: "done", images: [{ filename: "a.png" }] });
  });

  test("a job that failed unseen says why", () => {
    const job = started("1", "2");
    applySnapshot(job, snapshot({ status: "failed", error: { code: "x", message: "broke", node_id: "1" } }), 0);
    expect(phases(job)).toEqual({ 1: "failed" });
  });
});

describe("time left", () => {
  const progress = (value: number, firstValue: number, lastAtMs: number) => ({ value, max: 10, firstValue, firstAtMs: 0, lastAtMs });
  test.each([
    ["nothing is known before two steps", progress(1, 1, 0), 0, undefined],
    ["two of ten took four seconds", progress(3, 1, 4000), 4000, 14],
    ["time goes on between steps", progress(3, 1, 4000), 5000, 13],
    ["never below zero", progress(10, 1, 9000), 20000, 0],
  ])("%s", (_, given, now, wanted) => {
    expect(secondsLeft(given, now)).toBe(wanted);
  });
});

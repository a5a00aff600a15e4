/** What a job did and how long each part took, from its events. Pure. */

import type { JobEvent } from "./jobs";

export interface NodeSpan {
  id: string;
  type: string;
  stage: string;
  phase: "cached" | "done" | "failed" | "running";
  /** Since the job began; unset for a cached node. */
  fromMs?: number;
  tookMs?: number;
  /** The most memory that its stage's process held meanwhile; unset when nobody measured. */
  peakBytes?: number;
}

export interface Report {
  waitedMs?: number;
  ranMs?: number;
  /** Of the stage that needed most; unset when nobody measured. */
  peakBytes?: number;
  nodes: NodeSpan[];
  stages: { stage: string; tookMs: number; nodes: number; cached: number; peakBytes?: number }[];
}

interface About {
  type(id: string): string;
  stage(type: string): string;
}

export function report(events: readonly JobEvent[], about: About): Report {
  const at = (kind: string): number | undefined => events.find((event) => event.kind === kind)?.at_ms;
  const began = at("started");
  const last = events.at(-1)?.at_ms;
  const spans = new Map<string, NodeSpan>();
  const span = (id: string, type = about.type(id)): NodeSpan => {
    let known = spans.get(id);
    if (!known) spans.set(id, (known = { id, type, stage: about.stage(type), phase: "running" }));
    return known;
  };
  for (const event of events) {
    const when = event.at_ms;
    if (event.kind === "cached") for (const id of event.nodes ?? []) span(id).phase = "cached";
    if (event.kind === "node_started" && event.node_id !== undefined && when !== undefined) {
      // A repeated attempt counts from its own start.
      Object.assign(span(event.node_id, event.class_type), { phase: "running", fromMs: when - (began ?? when), tookMs: undefined });
    }
    const failed = event.kind === "failed" && typeof event.error === "object" ? event.error.node_id : undefined;
    const ended = event.kind === "node_done" ? event.node_id : failed;
    if (ended === undefined || when === undefined) continue;
    const node = span(ended);
    if (node.phase === "cached") continue;
    node.phase = event.kind === "failed" ? "failed" : "done";
    node.stage = event.stage ?? node.stage;
    node.peakBytes = event.peak_bytes;
    if (node.fromMs !== undefined) node.tookMs = when - (began ?? when) - node.fromMs;
  }
  const queued = at("queued");
  const stages = byStage([...spans.values()]);
  return {
    waitedMs: queued !== undefined && began !== undefined ? began - queued : undefined,
    ranMs: began !== undefined && last !== undefined ? last - began : undefined,
    nodes: [...spans.values()],
    peakBytes: most(stages.map(({ peakBytes }) => peakBytes)),
    stages,
  };
}

function most(values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 ? Math.max(...known) : undefined;
}

function byStage(nodes: NodeSpan[]): Report["stages"] {
  const stages = new Map<string, Report["stages"][number]>();
  for (const { stage, tookMs, phase, peakBytes } of nodes) {
    const total: Report["stages"][number] = stages.get(stage) ?? { stage, tookMs: 0, nodes: 0, cached: 0 };
    total.tookMs += tookMs ?? 0;
    total.nodes += 1;
    total.peakBytes = most([total.peakBytes, peakBytes]);
    if (phase === "cached") total.cached += 1;
    stages.set(stage, total);
  }
  return [...stages.values()];
}

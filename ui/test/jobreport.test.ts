import { describe, expect, test, vi } from "vitest";
import { parse } from "../src/bigjson";
import type { JobEvent } from "../src/jobs";
import { report } from "../src/jobreport";

// The graph library looks for a document when it is loaded.
vi.stubGlobal("document", { createElement: () => ({}) });
vi.stubGlobal("sessionStorage", { getItem: () => null, setItem: () => undefined });
vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined });
const { factsOf, seedsOf } = await import("../src/metadata");
const { asApiGraph } = await import("../src/apiformat");
const { neighbour } = await import("../src/queueorder");

const about = { type: (id: string) => `T${id}`, stage: (type: string) => (type === "T9" ? "image" : "sampler") };
const at = (at_ms: number, kind: string, extra: Partial<JobEvent> = {}): JobEvent => ({ job_id: "j", at_ms, kind, ...extra });

describe("the report of a job", () => {
  const events = [
    at(0, "queued"), at(100, "started"), at(100, "cached", { nodes: ["1"] }),
    at(110, "node_started", { node_id: "2" }), at(610, "node_done", { node_id: "2" }), at(610, "node_done", { node_id: "1" }),
    at(620, "node_started", { node_id: "9" }), at(640, "node_done", { node_id: "9" }), at(650, "succeeded"),
  ];
  test("times, stages and cache", () => {
    const made = report(events, about);
    expect([made.waitedMs, made.ranMs]).toEqual([100, 550]);
    expect(made.nodes.map(({ id, phase, fromMs, tookMs }) => [id, phase, fromMs, tookMs])).toEqual([
      ["1", "cached", undefined, undefined], ["2", "done", 10, 500], ["9", "done", 520, 20],
    ]);
    expect(made.stages).toEqual([
      { stage: "sampler", tookMs: 500, nodes: 2, cached: 1 }, { stage: "image", tookMs: 20, nodes: 1, cached: 0 },
    ]);
  });
  test("a failure ends its node, and a repeated attempt counts anew", () => {
    const failed = [
      at(0, "queued"), at(0, "started"), at(10, "node_started", { node_id: "2" }), at(500, "node_started", { node_id: "2" }),
      at(700, "failed", { error: { code: "internal", message: "m", node_id: "2" } }),
    ];
    expect(report(failed, about).nodes[0]).toMatchObject({ phase: "failed", fromMs: 500, tookMs: 200 });
  });
  test("memory is that of the run, per node and stage, and absent where nobody measured", () => {
    const measured = [
      at(0, "started"), at(0, "cached", { nodes: ["1"] }),
      at(10, "node_started", { node_id: "2" }), at(20, "node_done", { node_id: "2", stage: "gpu", peak_bytes: 300 }),
      at(20, "node_started", { node_id: "3" }), at(30, "node_done", { node_id: "3", stage: "gpu", peak_bytes: 200 }),
      at(30, "node_started", { node_id: "9" }), at(40, "node_done", { node_id: "9" }),
    ];
    const made = report(measured, about);
    expect(made.peakBytes).toBe(300);
    expect(made.nodes.map(({ id, stage, peakBytes }) => [id, stage, peakBytes])).toEqual([
      ["1", "sampler", undefined], ["2", "gpu", 300], ["3", "gpu", 200], ["9", "image", undefined],
    ]);
    expect(made.stages.map(({ stage, peakBytes }) => [stage, peakBytes])).toEqual([["sampler", undefined], ["gpu", 300], ["image", undefined]]);
    expect(report(events, about).peakBytes).toBeUndefined();
  });
  test("nothing known yet is no error", () => {
    expect(report([], about)).toEqual({ waitedMs: undefined, ranMs: undefined, nodes: [], stages: [] });
  });
});

describe("what a graph says of its picture", () => {
  const graph = asApiGraph(parse(`{
    "1": {"class_type": "Loader", "inputs": {"ckpt_name": "a.safetensors"}},
    "2": {"class_type": "Encode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
    "3": {"class_type": "Encode", "inputs": {"text": "blurry", "clip": ["1", 1]}},
    "4": {"class_type": "Area", "inputs": {"conditioning": ["2", 0]}},
    "5": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "steps": 20, "positive": ["4", 0], "negative": ["3", 0]}, "_meta": {"title": "First"}},
    "6": {"class_type": "KSampler", "inputs": {"seed": ["7", 0], "steps": 12, "positive": ["4", 0], "negative": ["3", 0]}}
  }`))!;
  test("prompts by side, values together, big seeds exact", () => {
    expect(factsOf(graph)).toEqual([
      { label: "Prompt", value: "a cat" }, { label: "Negative prompt", value: "blurry" },
      { label: "Seed", value: "18446744073709551615" }, { label: "Steps", value: "20, 12" }, { label: "Checkpoint", value: "a.safetensors" },
    ]);
    expect(seedsOf(graph)).toEqual([{ node: "First #5", seed: "18446744073709551615" }]);
  });
});

test.each<[string, number, string | null]>([
  ["c", 0, "a"],
  ["c", 1, "b"],
  ["a", 1, "c"],
  ["a", 2, null],
  ["x", 9, null],
])("job %s comes to stand at %i before %s", (id, index, before) => {
  expect(neighbour(["a", "b", "c"], id, index)).toBe(before);
});

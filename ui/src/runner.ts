/** Handing workflows in, stopping jobs, and what happens to seeds afterwards. */

import type { LGraph, LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget, ISerialisedNode } from "./litegraph";
import { api, ApiError, type NodeErrors } from "./api";
import { graph, store } from "./app";
import { byId } from "./dom";
import { expandPrompt } from "./dynamicprompt";
import { closeEditor } from "./editor";
import { ended } from "./ended";
import { isTerminal, markQueued } from "./jobs";
import { ComfyNode, MODE } from "./nodes";
import { everyNode } from "./subgraphs";
import { toProblems } from "./state";
import { toast } from "./ui/toasts";
import { assign } from "./widgets/assign";
import { CONTROL_NAME, nextSeed, type IntSpec, type Numeric } from "./widgets/values";

/** The nodes a run touches: outputs and everything they depend on. */
export function nodesToRun(from: LGraph): string[] {
  const wanted = new Set<LGraphNode>();
  const visit = (node: LGraphNode | null): void => {
    if (!node || wanted.has(node)) return;
    wanted.add(node);
    node.inputs.forEach((_, slot) => visit(node.getInputNode(slot)));
  };
  for (const node of from.nodes) {
    if (node instanceof ComfyNode && node.spec?.output_node && node.mode === MODE.always) {
      visit(node);
    }
  }
  return [...wanted].filter((node) => node.mode === MODE.always).map((node) => String(node.id));
}

/** The workflow as handed in: choices in its prompts are made for this run. */
export function serializeForRun(from: LGraph, random: () => number): unknown {
  const data = from.serialize();
  expandIn(data.nodes, from, random);
  for (const inner of data.definitions?.subgraphs ?? []) {
    const subgraph = from.subgraphs.get(inner.id);
    if (subgraph) expandIn(inner.nodes ?? [], subgraph as unknown as LGraph, random);
  }
  return data;
}

/** Makes the choices in the prompts of some saved nodes. */
function expandIn(saved: ISerialisedNode[], within: LGraph, random: () => number): void {
  for (const { id, widgets_values } of saved) {
    const node = within.getNodeById(id);
    const values = widgets_values;
    if (!(node instanceof ComfyNode) || !Array.isArray(values)) continue;
    const fields = (node.widgets ?? []).filter((widget) => widget.serialize !== false);
    fields.forEach((widget, index) => {
      const spec = node.input(widget.name)?.widget;
      const value: unknown = values[index];
      if (spec?.kind !== "text" || !spec.dynamic_prompts || typeof value !== "string") return;
      values[index] = expandPrompt(value, random);
    });
  }
}

/** Moves each seed on as the combo beneath it says. */
export function advanceSeeds(on: LGraph): void {
  store.loading = true;
  try {
    moveSeeds(on);
  } finally {
    store.loading = false;
  }
}

function moveSeeds(on: LGraph): void {
  for (const node of everyNode(on)) {
    const widgets = node.widgets ?? [];
    widgets.forEach((control: IBaseWidget, index) => {
      const seed = widgets[index - 1];
      if (control.name !== CONTROL_NAME || !seed || !(node instanceof ComfyNode)) return;
      const spec = node.input(seed.name)?.widget;
      if (spec?.kind !== "int") return;
      const linked = node.getSlotFromWidget(seed)?.link != null;
      if (linked) return;
      const value = seed.value as unknown as Numeric;
      assign(node, seed, nextSeed(String(control.value), spec as IntSpec, value, Math.random));
    });
  }
}

let last: Promise<unknown> = Promise.resolve();

async function submit(front: boolean): Promise<{ id: string; number: number; errors?: NodeErrors }> {
  const workflow = serializeForRun(graph, Math.random);
  if (!front) {
    const reply = await api.submit(workflow);
    return { id: reply.job_id, number: reply.number, errors: reply.node_errors };
  }
  const reply = await api.enqueue({ prompt: workflow, front });
  return { id: reply.prompt_id, number: reply.number, errors: reply.node_errors };
}

/** Hands the workflow in, after what is being handed in already; `false` when it was refused. */
export function run({ front = false } = {}): Promise<boolean> {
  const next = last.then(() => handIn(front));
  last = next;
  return next;
}

async function handIn(front: boolean): Promise<boolean> {
  closeEditor();
  store.setProblems([]);
  const nodes = nodesToRun(graph);
  try {
    const { id, number, errors } = await submit(front);
    store.addOwn(id);
    const job = store.job(id);
    job.number = number;
    // A fast job may already have reported more than "queued".
    if (isTerminal(job.status)) ended(job);
    else markQueued(job, nodes);
    store.setProblems(toProblems(errors ?? {}));
    store.emit("jobs");
    advanceSeeds(graph);
    return true;
  } catch (error) {
    reportRefusal(error);
    return false;
  }
}

/** Hands the workflow in as often as the field beside Run says; seeds move on in between. */
export async function runBatch(): Promise<void> {
  const wanted = Number(byId<HTMLInputElement>("batch").value);
  const times = Math.min(100, Math.max(1, Math.trunc(wanted) || 1));
  for (let done = 0; done < times; done += 1) if (!(await run())) return;
}

function reportRefusal(error: unknown): void {
  if (!(error instanceof ApiError)) {
    toast("error", "The workflow was not handed in: the gateway cannot be reached.");
    return;
  }
  store.forgetFinished();
  const problems = toProblems(error.nodeErrors);
  const text = error.details && problems.length === 0 ? `${error.message}: ${error.details}` : error.message;
  if (problems.length === 0) problems.push({ title: "Workflow", text });
  store.setProblems(problems);
  toast("error", `Not run: ${text}`);
}

export async function cancel(): Promise<void> {
  const job = store.cancellable();
  if (!job) return;
  try {
    store.snapshot(await api.cancel(job.id));
  } catch (error) {
    toast("error", `The job could not be cancelled: ${(error as Error).message}`);
  }
}

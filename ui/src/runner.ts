/** Handing workflows in, stopping jobs, and what happens to seeds afterwards. */

import type { LGraph, LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "./litegraph";
import { api, ApiError } from "./api";
import { graph, store } from "./app";
import { expandPrompt } from "./dynamicprompt";
import { closeEditor } from "./editor";
import { markQueued } from "./jobs";
import { ComfyNode, MODE } from "./nodes";
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
  for (const saved of data.nodes) {
    const node = from.getNodeById(saved.id);
    const values = saved.widgets_values;
    if (!(node instanceof ComfyNode) || !Array.isArray(values)) continue;
    const fields = (node.widgets ?? []).filter((widget) => widget.serialize !== false);
    fields.forEach((widget, index) => {
      const spec = node.spec?.inputs.find(({ name }) => name === widget.name)?.widget;
      const value: unknown = values[index];
      if (spec?.kind !== "text" || !spec.dynamic_prompts || typeof value !== "string") return;
      values[index] = expandPrompt(value, random);
    });
  }
  return data;
}

/** Moves each seed on as the combo beneath it says. */
export function advanceSeeds(on: LGraph): void {
  for (const node of on.nodes) {
    const widgets = node.widgets ?? [];
    widgets.forEach((control: IBaseWidget, index) => {
      const seed = widgets[index - 1];
      if (control.name !== CONTROL_NAME || !seed || !(node instanceof ComfyNode)) return;
      const spec = node.spec?.inputs.find(({ name }) => name === seed.name)?.widget;
      if (spec?.kind !== "int") return;
      const linked = node.getSlotFromWidget(seed)?.link != null;
      if (linked) return;
      const value = seed.value as unknown as Numeric;
      assign(node, seed, nextSeed(String(control.value), spec as IntSpec, value, Math.random));
    });
  }
}

let submitting = false;

export async function run(): Promise<void> {
  if (submitting) return;
  closeEditor();
  submitting = true;
  store.setProblems([]);
  const nodes = nodesToRun(graph);
  try {
    const reply = await api.submit(serializeForRun(graph, Math.random));
    store.addOwn(reply.job_id);
    const job = store.job(reply.job_id);
    job.number = reply.number;
    // A fast job may already have reported more than "queued".
    if (job.status === "queued" || job.status === "running") markQueued(job, nodes);
    store.setProblems(toProblems(reply.node_errors ?? {}));
    store.emit("jobs");
    advanceSeeds(graph);
  } catch (error) {
    reportRefusal(error);
  } finally {
    submitting = false;
  }
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

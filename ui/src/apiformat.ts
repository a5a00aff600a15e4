/** Recognises workflow files and lays API-format graphs out on the canvas. */

import { LiteGraph, type LGraph, type LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "./litegraph";
import { place } from "./arrange";
import { CONTROL_NAME } from "./widgets/values";

/** One node of an API-format graph: a value, or `[node id, output slot]`, per input. */
export interface ApiNode {
  class_type: string;
  inputs: Record<string, unknown>;
  _meta?: { title?: string };
}
export type ApiGraph = Record<string, ApiNode>;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function isUiWorkflow(value: unknown): value is Record<string, unknown> & { nodes: unknown[] } {
  return isRecord(value) && Array.isArray(value.nodes);
}

export function asApiGraph(value: unknown): ApiGraph | undefined {
  const inner = isRecord(value) && isRecord(value.prompt) ? value.prompt : value;
  if (!isRecord(inner)) return undefined;
  const nodes = Object.values(inner);
  const fits = (node: unknown): boolean =>
    isRecord(node) && typeof node.class_type === "string" && isRecord(node.inputs);
  return nodes.length > 0 && nodes.every(fits) ? (inner as unknown as ApiGraph) : undefined;
}

/** The link an input value stands for, if it is one. */
export function asLink(value: unknown): [string, number] | undefined {
  if (!Array.isArray(value) || value.length !== 2 || typeof value[1] !== "number") return undefined;
  return [String(value[0]), value[1]];
}

/** A node whose fields may bring others. */
type Choosing = LGraphNode & { chose?: (name: string) => boolean };

function fill(node: Choosing, inputs: Record<string, unknown>): void {
  // The fields that a choice brings come behind it, so they are filled in turn.
  for (let index = 0; index < (node.widgets?.length ?? 0); index += 1) {
    const widget = node.widgets![index]!;
    if (widget.name === CONTROL_NAME) widget.value = "fixed";
    const value = inputs[widget.name];
    if (value === undefined || asLink(value)) continue;
    widget.value = value as IBaseWidget["value"];
    node.chose?.(widget.name);
  }
}

/** Builds the graph on an empty canvas; ids that are whole numbers are kept. */
export function buildFromApi(source: ApiGraph, target: LGraph): void {
  const made = new Map<string, LGraphNode>();
  for (const [id, entry] of Object.entries(source)) {
    const node = LiteGraph.createNode(entry.class_type, entry._meta?.title);
    if (!node) continue;
    if (/^\d+$/.test(id)) node.id = Number(id);
    target.add(node);
    fill(node, entry.inputs);
    made.set(id, node);
  }
  for (const [id, entry] of Object.entries(source)) {
    const node = made.get(id);
    for (const [name, value] of Object.entries(entry.inputs)) {
      const link = asLink(value);
      const origin = link && made.get(link[0]);
      if (!node || !link || !origin) continue;
      if (node.findInputSlot(name) < 0) node.addInput(name, "*");
      origin.connect(link[1], node, node.findInputSlot(name));
    }
  }
  place([...made.values()], target);
}

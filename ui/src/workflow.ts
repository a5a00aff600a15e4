/** The workflow on the canvas: loading, saving, and keeping it across visits. */

import { asApiGraph, buildFromApi, isUiWorkflow } from "./apiformat";
import { editor, graph, store } from "./app";
import { parse, stringify } from "./bigjson";
import { closeEditor } from "./editor";
import { ComfyNode, registerMissing } from "./nodes";
import { session } from "./session";
import { everyNode, pathId } from "./subgraphs";
import { toast } from "./ui/toasts";
import { assign } from "./widgets/assign";
import { ComboField } from "./widgets/combo";
import { fitView } from "./view";

const STORED = "comfy.workflow";
const DEFAULT_URL = "workflows/default.json";
const SAVE_AFTER_MS = 400;

/** Node types named anywhere in a UI-format workflow, subgraphs left out. */
function typesIn(workflow: Record<string, unknown> & { nodes: unknown[] }): Set<string> {
  const definitions = workflow.definitions as { subgraphs?: { id: string; nodes?: unknown[] }[] } | undefined;
  const subgraphs = definitions?.subgraphs ?? [];
  const own = new Set(subgraphs.map(({ id }) => id));
  const nodes = [...workflow.nodes, ...subgraphs.flatMap((subgraph) => subgraph.nodes ?? [])];
  const types = nodes.map((node) => String((node as { type?: unknown }).type ?? ""));
  return new Set(types.filter((type) => type !== "" && !own.has(type)));
}

/** Puts a parsed workflow on the canvas. */
export function show(workflow: unknown): void {
  closeEditor();
  const apiGraph = isUiWorkflow(workflow) ? undefined : asApiGraph(workflow);
  if (!apiGraph && !isUiWorkflow(workflow)) {
    throw new Error("it is neither a workflow saved by an editor nor one in API format");
  }
  const types = apiGraph
    ? new Set(Object.values(apiGraph).map((node) => node.class_type))
    : typesIn(workflow as Record<string, unknown> & { nodes: unknown[] });
  const missing = registerMissing(types);
  const canvas = editor();
  canvas.setGraph(graph);
  canvas.deselectAll();
  store.loading = true;
  try {
    if (apiGraph) {
      graph.clear();
      buildFromApi(apiGraph, graph);
    } else {
      graph.configure(workflow as never);
    }
  } finally {
    store.loading = false;
  }
  store.setProblems(
    missing.map((type) => ({
      nodeId: nodeOfType(type),
      title: type,
      text: "no service offers this node",
    })),
  );
  repairCheckpoints();
  store.emit("graph");
  store.emit("selection");
}

function nodeOfType(type: string): string | undefined {
  const node = everyNode().find((candidate) => candidate.type === type);
  return node && pathId(node);
}

/** Replaces checkpoints that are not there with the first that is, and says so. */
export function repairCheckpoints(): void {
  const replaced = new Map<string, string>();
  for (const node of everyNode()) {
    if (!(node instanceof ComfyNode)) continue;
    for (const { name, widget: spec } of node.live) {
      if (spec?.kind !== "combo" || spec.folder !== "checkpoints") continue;
      const widget = node.field(name);
      const first = firstCheckpoint(spec.options);
      if (!(widget instanceof ComboField) || widget.known || first === undefined) continue;
      if (node.getSlotFromWidget(widget)?.link != null) continue;
      replaced.set(String(widget.value), first);
      assign(node, widget, first);
    }
  }
  for (const [from, to] of replaced) {
    const missing = from === "" ? "No checkpoint was chosen" : `The checkpoint ${from} is not here`;
    toast("warn", `${missing}; using ${to} instead.`);
  }
}

/** The default checkpoint where the gateway names one on offer, else the first offered. */
function firstCheckpoint(options: readonly string[]): string | undefined {
  const usable = store.checkpoints.filter(({ name, usable }) => usable && options.includes(name));
  return (usable.find((checkpoint) => checkpoint.default) ?? usable[0])?.name ?? options[0];
}

export async function showDefault(): Promise<void> {
  const reply = await fetch(DEFAULT_URL);
  if (!reply.ok) throw new Error(`the default workflow is missing (HTTP ${reply.status})`);
  show(parse(await reply.text()));
  session.opened(undefined);
  fitView();
}

/** Brings back the last visit's workflow, or the default one. */
export async function showStored(): Promise<void> {
  const stored = readStored();
  if (stored !== undefined) {
    try {
      const workflow = parse(stored);
      show(workflow);
      const ds = (workflow as { extra?: { ds?: { scale: number; offset: [number, number] } } }).extra?.ds;
      if (!ds) return fitView();
      editor().ds.scale = ds.scale;
      editor().ds.offset = ds.offset;
      return;
    } catch (error) {
      toast("warn", `The last workflow could not be restored: ${(error as Error).message}`);
    }
  }
  await showDefault();
}

function readStored(): string | undefined {
  try {
    return localStorage.getItem(STORED) ?? undefined;
  } catch {
    return undefined;
  }
}

let saveTimer: number | undefined;
let saveFailed = false;

/** Stores the workflow for the next visit. */
export function saveNow(): void {
  window.clearTimeout(saveTimer);
  saveTimer = undefined;
  try {
    localStorage.setItem(STORED, stringify(graph.serialize()));
    saveFailed = false;
  } catch {
    if (!saveFailed) toast("warn", "The browser cannot keep this workflow; save it to a file.");
    saveFailed = true;
  }
}

export function saveSoon(): void {
  saveTimer ??= window.setTimeout(saveNow, SAVE_AFTER_MS);
}

/** Saves after whatever can change the graph: hands on the page, or our own changes. */
export function keepSaved(): void {
  store.on("graph", saveSoon);
  window.addEventListener("pointerup", saveSoon);
  window.addEventListener("keyup", saveSoon);
  editor().canvas.addEventListener("wheel", saveSoon, { passive: true });
  window.addEventListener("pagehide", saveNow);
}

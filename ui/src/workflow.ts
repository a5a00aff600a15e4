/** The workflow on the canvas: loading, saving, and keeping it across visits. */

import { LiteGraph, SubgraphNode, type ExportedSubgraphInstance } from "@comfyorg/litegraph";
import { asApiGraph, buildFromApi, isUiWorkflow } from "./apiformat";
import { editor, graph, store } from "./app";
import { parse, stringify } from "./bigjson";
import { closeEditor } from "./editor";
import { ComfyNode, registerMissing } from "./nodes";
import { pngText } from "./pngtext";
import { toast } from "./ui/toasts";
import { assign } from "./widgets/assign";
import { ComboField } from "./widgets/combo";

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

/** Lets litegraph make instances of subgraphs that a workflow defines. */
export function supportSubgraphs(): void {
  graph.events.addEventListener("subgraph-created", (event) => {
    const { subgraph, data } = event.detail;
    class Instance extends SubgraphNode {
      static override title = data.name || "Subgraph";
      static override skip_list = true;
      constructor() {
        const instance = { id: -1, type: data.id, pos: [0, 0], size: [240, 100], inputs: [], outputs: [] };
        super(graph, subgraph, { ...instance, flags: {}, order: 0, mode: 0 } as unknown as ExportedSubgraphInstance);
        // The glyph litegraph uses comes from an icon font this page does not carry.
        for (const button of this.title_buttons) button.text = "⤢";
      }
    }
    LiteGraph.registerNodeType(data.id, Instance as never);
  });
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
  if (apiGraph) {
    graph.clear();
    buildFromApi(apiGraph, graph);
  } else {
    graph.configure(workflow as never);
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
  const node = graph.nodes.find((candidate) => candidate.type === type);
  return node && String(node.id);
}

/** Replaces checkpoints that are not there with the first that is, and says so. */
export function repairCheckpoints(): void {
  const replaced = new Map<string, string>();
  for (const node of graph.nodes) {
    if (!(node instanceof ComfyNode)) continue;
    for (const { name, widget: spec } of node.spec?.inputs ?? []) {
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

/** Moves the view so that everything is in sight between the panels. */
export function fitView(): void {
  const canvas = editor();
  const nodes = canvas.graph?.nodes ?? [];
  if (nodes.length === 0) return;
  const left = Math.min(...nodes.map((node) => node.pos[0]));
  const top = Math.min(...nodes.map((node) => node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT));
  const right = Math.max(...nodes.map((node) => node.pos[0] + node.size[0]));
  const bottom = Math.max(...nodes.map((node) => node.pos[1] + node.size[1]));
  const open = freeArea();
  const scale = Math.min(1.2, open.width / (right - left), open.height / (bottom - top));
  canvas.ds.scale = Math.max(0.15, scale);
  canvas.ds.offset[0] = (open.x + open.width / 2) / canvas.ds.scale - (left + right) / 2;
  canvas.ds.offset[1] = (open.y + open.height / 2) / canvas.ds.scale - (top + bottom) / 2;
  canvas.setDirty(true, true);
}

/** The part of the window that no panel covers. */
export function freeArea(): DOMRect {
  const cover = (id: string): DOMRect | undefined => {
    const element = document.getElementById(id);
    return element && !element.hidden ? element.getBoundingClientRect() : undefined;
  };
  const margin = 28;
  const left = (cover("palette")?.right ?? 0) + margin;
  const right = (cover("sidebar")?.left ?? window.innerWidth) - margin;
  const top = (cover("topbar")?.bottom ?? 0) + margin;
  const bottom = window.innerHeight - 64 - margin;
  return new DOMRect(left, top, Math.max(200, right - left), Math.max(200, bottom - top));
}

export async function showDefault(): Promise<void> {
  const reply = await fetch(DEFAULT_URL);
  if (!reply.ok) throw new Error(`the default workflow is missing (HTTP ${reply.status})`);
  show(parse(await reply.text()));
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

export function download(): void {
  const text = stringify(graph.serialize(), 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "workflow.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A workflow from a JSON file, or from the text chunks of a PNG that a run saved. */
async function readWorkflow(file: File): Promise<unknown> {
  const isPng = file.type === "image/png" || file.name.toLowerCase().endsWith(".png");
  if (!isPng) return parse(await file.text());
  const chunks = pngText(new Uint8Array(await file.arrayBuffer()));
  const text = chunks.get("workflow") ?? chunks.get("prompt");
  if (text === undefined) throw new Error("the picture carries no workflow");
  return parse(text);
}

/** Shows the workflow in a file picked or dropped by the user. */
export async function openFile(file: File): Promise<void> {
  try {
    show(await readWorkflow(file));
    store.forgetOwn();
    fitView();
    toast("good", `Loaded ${file.name}.`);
  } catch (error) {
    toast("error", `${file.name} was not loaded: ${(error as Error).message}`);
  }
}

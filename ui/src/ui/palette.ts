/** The list of nodes on offer, by category, with a search box. */

import { LiteGraph } from "@comfyorg/litegraph";
import type { NodeSpec } from "../api";
import { editor, store } from "../app";
import { byId, h } from "../dom";
import { ComfyNode, showInputPicture } from "../nodes";
import { freeArea } from "../workflow";

/** Where the next chosen node goes, in graph units; the middle of the view if unset. */
let target: [number, number] | undefined;

const DRAG_TYPE = "application/x-comfy-node";

export function addNode(type: string, at?: [number, number]): void {
  const canvas = editor();
  const node = LiteGraph.createNode(type);
  if (!node || !canvas.graph) return;
  const area = freeArea();
  const middle = [area.x + area.width / 2, area.y + area.height / 2];
  const [x, y] = at ?? [
    middle[0]! / canvas.ds.scale - canvas.ds.offset[0] - node.size[0] / 2,
    middle[1]! / canvas.ds.scale - canvas.ds.offset[1] - node.size[1] / 2,
  ];
  node.pos = [x, y];
  canvas.graph.add(node);
  if (node instanceof ComfyNode) showInputPicture(node);
  canvas.selectNode(node);
  store.emit("graph");
  store.emit("selection");
}

function matches(spec: NodeSpec, words: string[]): boolean {
  const text = `${spec.display_name ?? ""} ${spec.class} ${spec.category ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function entry(spec: NodeSpec): HTMLElement {
  const marks = [spec.deprecated && "deprecated", spec.experimental && "experimental"].filter(Boolean);
  const item = h(
    "button",
    { class: "node-entry", draggable: true, title: spec.description || spec.class },
    h("span", {}, spec.display_name || spec.class),
    marks.length > 0 && h("small", { class: "dim" }, marks.join(", ")),
  );
  item.onclick = () => {
    addNode(spec.class, target);
    target = undefined;
  };
  item.ondragstart = (event) => event.dataTransfer?.setData(DRAG_TYPE, spec.class);
  return item;
}

function render(): void {
  const words = byId<HTMLInputElement>("palette-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map<string, NodeSpec[]>();
  for (const spec of store.specs.values()) {
    if (!matches(spec, words)) continue;
    const category = spec.category || "other";
    groups.set(category, [...(groups.get(category) ?? []), spec]);
  }
  const names = [...groups.keys()].sort();
  const list = names.map((name) => {
    const specs = groups.get(name) ?? [];
    specs.sort((a, b) => (a.display_name || a.class).localeCompare(b.display_name || b.class));
    const title = h("summary", {}, name, h("small", { class: "dim" }, String(specs.length)));
    return h("details", { open: words.length > 0 || names.length < 8 }, title, ...specs.map(entry));
  });
  const empty = store.specs.size === 0 ? "No service offers nodes yet." : "No node matches.";
  byId("palette-list").replaceChildren(
    ...(list.length > 0 ? list : [h("p", { class: "dim" }, empty)]),
  );
}

export function togglePalette(open?: boolean, at?: [number, number]): void {
  const panel = byId("palette");
  panel.hidden = open === undefined ? !panel.hidden : !open;
  byId("toggle-palette").setAttribute("aria-pressed", String(!panel.hidden));
  target = at;
  if (panel.hidden) return;
  const search = byId<HTMLInputElement>("palette-search");
  search.focus();
  search.select();
}

export function startPalette(): void {
  byId("toggle-palette").onclick = () => togglePalette();
  const search = byId<HTMLInputElement>("palette-search");
  search.oninput = render;
  search.onkeydown = (event) => {
    if (event.key === "Escape") togglePalette(false);
    if (event.key === "Enter") byId("palette-list").querySelector<HTMLElement>(".node-entry")?.click();
  };
  store.on("catalog", render);
  const { canvas } = editor();
  canvas.addEventListener("drop", (event) => {
    const type = (event as DragEvent).dataTransfer?.getData(DRAG_TYPE);
    if (!type) return;
    event.preventDefault();
    const [x, y] = editor().convertEventToCanvasOffset(event as DragEvent) as [number, number];
    addNode(type, [x - 40, y + 10]);
  });
}

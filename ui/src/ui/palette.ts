/** The list of nodes on offer, by category, with a search box. */

import type { NodeSpec } from "../api";
import { addNode } from "../addnode";
import { editor, store } from "../app";
import { byId, h } from "../dom";
import { rank } from "../rank";

const DRAG_TYPE = "application/x-comfy-node";

function entry(spec: NodeSpec): HTMLElement {
  const marks = [spec.deprecated && "deprecated", spec.experimental && "experimental"].filter(Boolean);
  const item = h(
    "button",
    { class: "node-entry", draggable: true, title: spec.description || spec.class },
    h("span", {}, spec.display_name || spec.class),
    marks.length > 0 && h("small", { class: "dim" }, marks.join(", ")),
  );
  item.onclick = () => void addNode(spec.class);
  item.ondragstart = (event) => event.dataTransfer?.setData(DRAG_TYPE, spec.class);
  return item;
}

function render(): void {
  const query = byId<HTMLInputElement>("palette-search").value.trim();
  const groups = new Map<string, NodeSpec[]>();
  for (const spec of rank(store.specs.values(), query)) {
    const category = spec.category || "other";
    groups.set(category, [...(groups.get(category) ?? []), spec]);
  }
  const names = query === "" ? [...groups.keys()].sort() : [...groups.keys()];
  const list = names.map((name) => {
    const specs = groups.get(name) ?? [];
    if (query === "") specs.sort((a, b) => (a.display_name || a.class).localeCompare(b.display_name || b.class));
    const title = h("summary", {}, name, h("small", { class: "dim" }, String(specs.length)));
    return h("details", { open: query !== "" || names.length < 8 }, title, ...specs.map(entry));
  });
  const empty = store.specs.size === 0 ? "No service offers nodes yet." : "No node matches.";
  byId("palette-list").replaceChildren(
    ...(list.length > 0 ? list : [h("p", { class: "dim" }, empty)]),
  );
}

export function startPalette(): void {
  const search = byId<HTMLInputElement>("palette-search");
  search.oninput = render;
  search.onkeydown = (event) => {
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

/** Arranges the nodes on the canvas: all of them, or the selected ones. */

import { LiteGraph, type LGraph, type LGraphNode } from "@comfyorg/litegraph";
import { editor, store } from "./app";
import { layOut, type Edge } from "./layout";
import { fitView } from "./view";

/** Lays out some nodes of a graph; their top left corner stays where it is. */
export function place(nodes: readonly LGraphNode[], of: LGraph): void {
  if (nodes.length === 0) return;
  const within = new Set(nodes.map(({ id }) => id));
  const edges = [...of.links.values()].flatMap(({ origin_id, target_id }): Edge[] =>
    within.has(origin_id) && within.has(target_id) ? [[origin_id, target_id]] : [],
  );
  const left = Math.min(...nodes.map(({ pos }) => pos[0]));
  const top = Math.min(...nodes.map(({ pos }) => pos[1]));
  const boxes = nodes.map(({ id, size, flags }) => ({ id, width: size[0], height: flags.collapsed ? 0 : size[1] }));
  const placed = layOut(boxes, edges, LiteGraph.NODE_TITLE_HEIGHT);
  const x0 = Math.min(...[...placed.values()].map(([x]) => x));
  const y0 = Math.min(...[...placed.values()].map(([, y]) => y));
  for (const node of nodes) {
    const [x, y] = placed.get(node.id) ?? [0, 0];
    node.pos = [left + x - x0, top + y - y0];
  }
}

export function arrange(): void {
  const canvas = editor();
  if (!canvas.graph) return;
  const selected = Object.values(canvas.selected_nodes).filter(({ pinned }) => !pinned);
  const all = canvas.graph.nodes.filter(({ pinned }) => !pinned);
  place(selected.length > 1 ? selected : all, canvas.graph as LGraph);
  // Bends in links belong to where the nodes were.
  if (selected.length <= 1) for (const id of [...canvas.graph.reroutes.keys()]) canvas.graph.removeReroute(id);
  if (selected.length <= 1) fitView();
  canvas.setDirty(true, true);
  store.emit("graph");
}

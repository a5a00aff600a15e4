/** What of the graph is in sight. */

import { LiteGraph, type LGraphNode } from "@comfyorg/litegraph";
import { editor } from "./app";

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
  const margin = 28;
  const panels = [...document.querySelectorAll<HTMLElement>(".dock, #rail")].filter(({ hidden }) => !hidden);
  const left = Math.max(0, ...panels.map((panel) => panel.getBoundingClientRect().right)) + margin;
  const sidebar = document.getElementById("sidebar");
  const side = sidebar && !sidebar.hidden ? sidebar.getBoundingClientRect() : undefined;
  // On a narrow window the sidebar lies along the bottom.
  const beside = side && side.left > window.innerWidth / 3 ? side.left : window.innerWidth;
  const above = side && side.left <= window.innerWidth / 3 ? side.top : window.innerHeight;
  const top = (document.getElementById("topbar")?.getBoundingClientRect().bottom ?? 0) + margin;
  return new DOMRect(left, top, Math.max(200, beside - margin - left), Math.max(200, above - 64 - margin - top));
}

/** Zooms about the middle of the free area. */
export function zoomBy(factor: number): void {
  const { ds } = editor();
  const area = freeArea();
  ds.changeScale(ds.scale * factor, [area.x + area.width / 2, area.y + area.height / 2]);
  editor().setDirty(true, true);
}

/** Where a point of the window is in the graph. */
export function toGraph(x: number, y: number): [number, number] {
  const { scale, offset } = editor().ds;
  return [x / scale - offset[0], y / scale - offset[1]];
}

/** Whether the title of a node lies where no panel covers it. */
export function isInSight({ pos, size }: LGraphNode): boolean {
  const { scale, offset } = editor().ds;
  const area = freeArea();
  const left = (pos[0] + offset[0]) * scale;
  const top = (pos[1] + offset[1] - LiteGraph.NODE_TITLE_HEIGHT) * scale;
  return left >= area.left && left + size[0] * scale <= area.right && top >= area.top && top + LiteGraph.NODE_TITLE_HEIGHT * scale <= area.bottom;
}

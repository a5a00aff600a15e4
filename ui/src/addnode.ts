/** Putting new nodes on the canvas. */

import { LiteGraph, type LGraphNode } from "@comfyorg/litegraph";
import { editor, store } from "./app";
import { ComfyNode } from "./nodes";
import { showInputPicture } from "./uploads";
import { freeArea, toGraph } from "./view";

/** Adds a node at a point of the graph, or in the middle of the view. */
export function addNode(type: string, at?: [number, number]): LGraphNode | undefined {
  const canvas = editor();
  const node = LiteGraph.createNode(type);
  if (!node || !canvas.graph) return undefined;
  const area = freeArea();
  const [x, y] = toGraph(area.x + area.width / 2, area.y + area.height / 2);
  node.pos = at ?? [x - node.size[0] / 2, y - node.size[1] / 2];
  canvas.graph.add(node);
  if (node instanceof ComfyNode) showInputPicture(node);
  canvas.deselectAll();
  canvas.selectNode(node);
  store.emit("graph");
  store.emit("selection");
  return node;
}

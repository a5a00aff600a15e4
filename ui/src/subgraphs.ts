/** Subgraphs: making their nodes, and where a node inside one is in the whole workflow. */

import { LiteGraph, SubgraphNode, type ExportedSubgraphInstance, type LGraph, type LGraphNode } from "@comfyorg/litegraph";
import { editor, graph, store } from "./app";
import { palette } from "./theme";
import { isInSight } from "./view";

/** Lets litegraph make instances of subgraphs that a workflow defines. */
export function supportSubgraphs(): void {
  graph.events.addEventListener("subgraph-created", (event) => {
    const { subgraph, data } = event.detail;
    colourBrackets(subgraph.inputNode);
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

/** litegraph draws the brackets of a subgraph's ends white, which is no colour on a light ground. */
function colourBrackets(end: object): void {
  const base: object = Object.getPrototypeOf(Object.getPrototypeOf(end) as object) as object;
  Object.defineProperty(base, "sideStrokeStyle", { configurable: true, get: () => palette.text });
}

/** The subgraph nodes that lead from the whole workflow to `target`; the first way if there are several. */
export function wayTo(target: LGraph, from: LGraph = graph): SubgraphNode[] | undefined {
  if (target === from) return [];
  for (const node of from.nodes) {
    if (!(node instanceof SubgraphNode)) continue;
    const rest = wayTo(target, node.subgraph as unknown as LGraph);
    if (rest) return [node, ...rest];
  }
  return undefined;
}

/** The id of a node as jobs name it: `outer:inner` inside a subgraph. */
export function pathId(node: LGraphNode): string {
  if (!node.graph || (node.graph as LGraph) === graph) return String(node.id);
  const way = wayTo(node.graph as LGraph) ?? [];
  return [...way.map(({ id }) => id), node.id].join(":");
}

/** The node that a job names. */
export function nodeAt(id: string): LGraphNode | undefined {
  let within: LGraph = graph;
  const parts = id.split(":");
  for (const part of parts.slice(0, -1)) {
    const holder = within.getNodeById(Number(part));
    if (!(holder instanceof SubgraphNode)) return undefined;
    within = holder.subgraph as unknown as LGraph;
  }
  return within.getNodeById(Number(parts.at(-1))) ?? undefined;
}

/** Brings a node into view and selects it, opening the subgraph it is in. */
export function goToNode(id: string): void {
  const node = nodeAt(id) ?? nodeAt(id.split(":", 1)[0] ?? "");
  if (!node) return;
  const canvas = editor();
  if (node.graph && canvas.graph !== node.graph) canvas.setGraph(node.graph as never);
  canvas.deselectAll();
  canvas.selectNode(node);
  if (!isInSight(node)) canvas.centerOnNode(node);
  canvas.setDirty(true, true);
  store.emit("selection");
}

/** Every node of the workflow, those inside subgraphs included. */
export function everyNode(from: LGraph = graph): LGraphNode[] {
  const inner = [...from.subgraphs.values()].flatMap((subgraph) => [...subgraph.nodes]);
  return [...from.nodes, ...inner];
}

/** Puts the selected nodes into a subgraph of their own. */
export function makeSubgraph(): void {
  const canvas = editor();
  if (canvas.selectedItems.size === 0 || !canvas.graph) return;
  const made = canvas.graph.convertToSubgraph(canvas.selectedItems);
  canvas.deselectAll();
  canvas.selectNode(made.node);
  store.emit("graph");
  store.emit("selection");
}

/** Subgraphs: making their nodes, and where a node inside one is in the whole workflow. */

import { LiteGraph, SubgraphNode, type ExportedSubgraphInstance, type LGraph, type LGraphCanvas, type LGraphNode } from "@comfyorg/litegraph";
import { editor, graph, store } from "./app";
import { drawTitleBadge, drawTitleProgress, stateStroke } from "./nodeview";
import { palette } from "./theme";
import { isInSight } from "./view";

type TitleButton = Parameters<SubgraphNode["onTitleButtonClick"]>[0];

/** What the button in the title of a subgraph node takes of its width. */
const TITLE_BUTTON = 28;

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
        Object.assign(this.strokeStyles, { state: () => stateStroke(this) });
      }

      override onTitleButtonClick(button: TitleButton, canvas: LGraphCanvas): void {
        if (button.name === "enter_subgraph") enter(this);
        else super.onTitleButtonClick(button, canvas);
      }

      override drawProgressBar(ctx: CanvasRenderingContext2D): void {
        drawTitleProgress(this, ctx);
      }

      override onDrawTitle(ctx: CanvasRenderingContext2D): void {
        drawTitleBadge(this, ctx, TITLE_BUTTON);
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

/** The subgraph nodes by which what the canvas shows was entered. */
let entered: SubgraphNode[] = [];

const last = (way: readonly SubgraphNode[]): LGraph => (way.at(-1)?.subgraph as unknown as LGraph | undefined) ?? graph;

/** Whether a way still leads through the workflow: undoing makes its nodes anew. */
function holds(way: readonly SubgraphNode[]): boolean {
  return way.every((node, depth) => last(way.slice(0, depth)).getNodeById(node.id) === node);
}

/** The subgraph nodes that lead to what the canvas shows, as the user went. */
export function currentWay(): SubgraphNode[] {
  const shown = editor().graph as unknown as LGraph | null;
  if (!shown || shown === graph) return [];
  return last(entered) === shown && holds(entered) ? entered : (wayTo(shown) ?? []);
}

/** Shows the inside of the last node of a way, or the whole workflow. */
export function goInto(way: SubgraphNode[]): void {
  const canvas = editor();
  entered = way;
  if ((canvas.graph as unknown) !== last(way)) return canvas.setGraph(last(way) as never);
  // Another use of the same subgraph looks the same but for its states.
  canvas.dispatch("litegraph:set-graph", { newGraph: last(way) as never, oldGraph: last(way) as never });
  canvas.setDirty(true, true);
}

/** Opens a subgraph node of what the canvas shows. */
export function enter(node: SubgraphNode): void {
  goInto([...currentWay(), node]);
}

/** Notes by which node litegraph itself opens a subgraph: the one under the pointer, if it holds it. */
export function noteOpening(subgraph: unknown): void {
  const canvas = editor();
  const uses = (canvas.graph?.nodes ?? []).filter(
    (node): node is SubgraphNode => node instanceof SubgraphNode && (node.subgraph as unknown) === subgraph,
  );
  const [x, y] = canvas.graph_mouse;
  const pointed = canvas.graph?.getNodeOnPos(x, y);
  const node = uses.find((use) => use === pointed) ?? uses.find((use) => canvas.selectedItems.has(use)) ?? uses[0];
  if (node) entered = [...currentWay(), node];
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
  const current = currentWay();
  const depth = current.findIndex(({ subgraph }) => (subgraph as unknown) === node.graph);
  const way = depth >= 0 ? current.slice(0, depth + 1) : (wayTo(node.graph as LGraph) ?? []);
  return [...way.map(({ id }) => id), node.id].join(":");
}

/** The subgraph nodes of these ids, each inside the one before; `undefined` when there is no such way. */
export function wayOf(ids: readonly (string | number)[]): SubgraphNode[] | undefined {
  const way: SubgraphNode[] = [];
  for (const id of ids) {
    const holder = last(way).getNodeById(Number(id));
    if (!(holder instanceof SubgraphNode)) return undefined;
    way.push(holder);
  }
  return way;
}

function find(id: string): { way: SubgraphNode[]; node: LGraphNode } | undefined {
  const parts = id.split(":");
  const way = wayOf(parts.slice(0, -1));
  const node = way && last(way).getNodeById(Number(parts.at(-1)));
  return node ? { way, node } : undefined;
}

/** The node that a job names. */
export function nodeAt(id: string): LGraphNode | undefined {
  return find(id)?.node;
}

/** Brings a node into view and selects it, opening the subgraph it is in. */
export function goToNode(id: string): void {
  const found = find(id) ?? find(id.split(":", 1)[0] ?? "");
  if (!found) return;
  const { way, node } = found;
  const canvas = editor();
  const here = currentWay();
  if (way.length !== here.length || way.some((holder, depth) => holder !== here[depth])) goInto(way);
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
  const [width, height] = made.node.size;
  // Wide enough for the title with its button and a state.
  made.node.setSize([Math.max(width, 240), height]);
  canvas.deselectAll();
  canvas.selectNode(made.node);
  store.emit("graph");
  store.emit("selection");
}

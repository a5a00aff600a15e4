/** The litegraph canvas: size, drawing hooks, what a double click or a dropped link or file does. */

import { LGraphCanvas, LiteGraph, SubgraphNode, type LGraph, type LGraphNode, type Subgraph } from "@comfyorg/litegraph";
import { graph, setEditor, store } from "./app";
import { isClipboardKey } from "./clipboard";
import { byId } from "./dom";
import { openFile } from "./files";
import { startMenus } from "./menus";
import { ComfyNode, MODE } from "./nodes";
import { inputPicture } from "./uploads";
import { drawAllMessages } from "./nodeview";
import { enter, noteOpening } from "./subgraphs";
import { drawGrid, styleCanvas } from "./theme";
import { startTouch } from "./touch";
import { openMaskEditor } from "./ui/maskeditor";
import { openSearch, type Loose } from "./ui/search";

class PageCanvas extends LGraphCanvas {
  override processKey(event: KeyboardEvent): void {
    if (!isClipboardKey(event)) super.processKey(event);
  }

  override openSubgraph(subgraph: Subgraph): void {
    noteOpening(subgraph);
    super.openSubgraph(subgraph);
  }
}

function resize(canvas: LGraphCanvas): void {
  const element = canvas.canvas;
  const ratio = window.devicePixelRatio || 1;
  element.width = Math.round(window.innerWidth * ratio);
  element.height = Math.round(window.innerHeight * ratio);
  element.getContext("2d")?.scale(ratio, ratio);
  canvas.draw(true, true);
}

const SET_ASIDE_ALPHA = 0.4;

/** Muted and bypassed nodes are drawn faint. */
function fadeSetAside(canvas: LGraphCanvas): void {
  const draw = canvas.drawNode.bind(canvas);
  canvas.drawNode = (node, ctx) => {
    const alpha = canvas.editor_alpha;
    if (node.mode === MODE.mute || node.mode === MODE.bypass) canvas.editor_alpha = SET_ASIDE_ALPHA;
    draw(node, ctx);
    canvas.editor_alpha = alpha;
  };
}

/** A link dropped on nothing offers the nodes that fit its end. */
function offerForLinks(canvas: LGraphCanvas): void {
  canvas.linkConnector.events.addEventListener("dropped-on-canvas", ({ detail }) => {
    const [link] = canvas.linkConnector.renderLinks;
    // A link that was pulled off is meant to go away.
    if (!link || "disconnect" in link || !("fromSlot" in link)) return;
    const node = link.node as LGraphNode;
    if (typeof node.connect !== "function") return;
    const wants = link.toType === "input" ? "input" : "output";
    const loose: Loose = { node, slot: link.fromSlotIndex, wants, type: String(link.fromSlot.type) };
    openSearch([detail.clientX, detail.clientY], [detail.canvasX, detail.canvasY], loose);
  });
}

function doubleClicked(canvas: LGraphCanvas, detail: { subType: string; node?: LGraphNode }): void {
  if (detail.subType === "empty-double-click") {
    openSearch([...canvas.mouse] as [number, number], [...canvas.graph_mouse] as [number, number]);
  }
  const { node } = detail;
  if (detail.subType !== "node-double-click" || !node) return;
  // litegraph opens a subgraph itself, unless it was the title.
  if (node instanceof SubgraphNode && canvas.graph === node.graph) enter(node);
  else if (node instanceof ComfyNode && inputPicture(node)) openMaskEditor(node);
}

function hook(canvas: LGraphCanvas): void {
  fadeSetAside(canvas);
  startMenus(canvas);
  canvas.allow_searchbox = false;
  canvas.low_quality_zoom_threshold = 0.24;
  canvas.onDrawBackground = (ctx: CanvasRenderingContext2D, area: ArrayLike<number>) =>
    drawGrid(ctx, area, canvas.ds.scale);
  canvas.onDrawForeground = (ctx: CanvasRenderingContext2D) => drawAllMessages(canvas, ctx);
  canvas.onSelectionChange = () => store.emit("selection");
  canvas.canvas.addEventListener("litegraph:canvas", (event) => {
    doubleClicked(canvas, (event as CustomEvent<{ subType: string; node?: LGraphNode }>).detail);
  });
  offerForLinks(canvas);
}

function acceptFiles(canvas: LGraphCanvas): void {
  const hint = byId("drop");
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  let depth = 0;
  window.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    hint.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth = Math.max(0, depth - 1);
    hint.hidden = depth === 0;
  });
  window.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  window.addEventListener("drop", (event) => {
    depth = 0;
    hint.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    void openFile(file, [...canvas.convertEventToCanvasOffset(event)] as [number, number]);
  });
}

export function startCanvas(): LGraphCanvas {
  LiteGraph.alt_drag_do_clone_nodes = true;
  LiteGraph.search_hide_on_mouse_leave = false;
  LiteGraph.context_menu_scaling = false;
  const canvas = new PageCanvas(byId<HTMLCanvasElement>("graph"), graph as LGraph, {
    skip_render: true,
  });
  setEditor(canvas);
  styleCanvas(canvas);
  hook(canvas);
  startTouch(canvas);
  resize(canvas);
  window.addEventListener("resize", () => resize(canvas));
  acceptFiles(canvas);
  byId("toggle-sidebar").onclick = () => {
    const sidebar = byId("sidebar");
    sidebar.hidden = !sidebar.hidden;
    byId("toggle-sidebar").setAttribute("aria-pressed", String(!sidebar.hidden));
  };
  canvas.startRendering();
  return canvas;
}

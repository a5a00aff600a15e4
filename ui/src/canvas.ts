/** The litegraph canvas: size, drawing hooks, menus, keys. */

import {
  ContextMenu,
  LGraphCanvas,
  LiteGraph,
  type LGraph,
  type LGraphNode,
} from "@comfyorg/litegraph";
import { graph, setEditor, store } from "./app";
import { byId, h } from "./dom";
import { MODE } from "./nodes";
import { drawAllMessages } from "./nodeview";
import { run } from "./runner";
import { drawGrid, styleCanvas } from "./theme";
import { togglePalette } from "./ui/palette";
import { fitView, openFile } from "./workflow";

type MenuEntries = ReturnType<LGraphCanvas["getCanvasMenuOptions"]>;

function resize(canvas: LGraphCanvas): void {
  const element = canvas.canvas;
  const ratio = window.devicePixelRatio || 1;
  element.width = Math.round(window.innerWidth * ratio);
  element.height = Math.round(window.innerHeight * ratio);
  element.getContext("2d")?.scale(ratio, ratio);
  canvas.draw(true, true);
}

function setMode(canvas: LGraphCanvas, mode: number): void {
  const nodes = Object.values(canvas.selected_nodes);
  const all = nodes.every((node) => node.mode === mode);
  for (const node of nodes) node.mode = all ? MODE.always : mode;
  canvas.setDirty(true, true);
  store.emit("graph");
  store.emit("selection");
}

/** litegraph prints menu titles as markup; some come from workflow files. */
class SafeMenu extends ContextMenu<unknown> {
  constructor(...[values, options]: ConstructorParameters<typeof ContextMenu<unknown>>) {
    if (options.title) options.title = String(options.title).replace(/[&<>"']/g, " ");
    super(values, options);
  }
}

/** Our own menus: litegraph's offer things a ComfyUI graph has no use for. */
function nodeMenu(canvas: LGraphCanvas, node: LGraphNode): unknown[] {
  const changed = (action: () => void) => () => {
    if (!canvas.selected_nodes[node.id]) canvas.selectNode(node);
    action();
    canvas.setDirty(true, true);
    store.emit("graph");
  };
  return [
    { content: node.collapsed ? "Expand" : "Collapse", callback: changed(() => node.collapse(true)) },
    { content: node.mode === MODE.mute ? "Unmute" : "Mute", callback: changed(() => setMode(canvas, MODE.mute)) },
    { content: node.mode === MODE.bypass ? "Stop bypassing" : "Bypass", callback: changed(() => setMode(canvas, MODE.bypass)) },
    { content: node.pinned ? "Unpin" : "Pin", callback: changed(() => node.pin()) },
    { content: "Colours", has_submenu: true, callback: LGraphCanvas.onMenuNodeColors },
    { content: "Fit size", callback: changed(() => node.setSize(node.computeSize())) },
    null,
    { content: "Clone", callback: LGraphCanvas.onMenuNodeClone },
    { content: "Remove", callback: changed(() => canvas.deleteSelected()) },
  ];
}

function canvasMenu(canvas: LGraphCanvas): unknown[] {
  return [
    { content: "Add node…", callback: () => togglePalette(true, [...canvas.graph_mouse] as [number, number]) },
    { content: "Add group", callback: LGraphCanvas.onGroupAdd },
    { content: "Show everything", callback: fitView },
  ];
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

function hook(canvas: LGraphCanvas): void {
  fadeSetAside(canvas);
  canvas.getMenuOptions = () => canvasMenu(canvas) as MenuEntries;
  canvas.getNodeMenuOptions = (node) =>
    nodeMenu(canvas, node) as ReturnType<LGraphCanvas["getNodeMenuOptions"]>;
  canvas.allow_searchbox = false;
  canvas.low_quality_zoom_threshold = 0.35;
  canvas.onDrawBackground = (ctx: CanvasRenderingContext2D, area: ArrayLike<number>) =>
    drawGrid(ctx, area, canvas.ds.scale);
  canvas.onDrawForeground = (ctx: CanvasRenderingContext2D) => drawAllMessages(canvas, ctx);
  canvas.onSelectionChange = () => store.emit("selection");
  canvas.canvas.addEventListener("litegraph:canvas", (event) => {
    const detail = (event as CustomEvent<{ subType: string }>).detail;
    if (detail.subType === "empty-double-click") {
      togglePalette(true, [...canvas.graph_mouse] as [number, number]);
    }
  });
}

function typingIn(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

function onKey(canvas: LGraphCanvas, event: KeyboardEvent): void {
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key === "Enter") {
    event.preventDefault();
    // A field still being typed in reports its value when it loses the focus.
    if (document.activeElement instanceof HTMLInputElement) document.activeElement.blur();
    void run();
    return;
  }
  if (typingIn(event.target)) return;
  const key = event.key.toLowerCase();
  if (command && key === "m") setMode(canvas, MODE.mute);
  else if (command && key === "b") setMode(canvas, MODE.bypass);
  else if (command || event.altKey) return;
  else if (key === "f") fitView();
  else if (key === "n") togglePalette(true, [...canvas.graph_mouse] as [number, number]);
  else if (key === "i") byId("toggle-sidebar").click();
  else return;
  event.preventDefault();
}

function acceptFiles(): void {
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
    void openFile(file);
  });
}

/** The way out of a subgraph. */
function showWayBack(canvas: LGraphCanvas): void {
  const back = byId("back");
  back.onclick = () => {
    canvas.setGraph(graph);
    fitView();
  };
  canvas.canvas.addEventListener("litegraph:set-graph", () => {
    back.hidden = canvas.graph === graph;
    fitView();
    store.emit("selection");
  });
}

export function startCanvas(): LGraphCanvas {
  LiteGraph.alt_drag_do_clone_nodes = true;
  LiteGraph.search_hide_on_mouse_leave = false;
  LiteGraph.context_menu_scaling = false;
  LiteGraph.ContextMenu = SafeMenu as typeof ContextMenu;
  const canvas = new LGraphCanvas(byId<HTMLCanvasElement>("graph"), graph as LGraph, {
    skip_render: true,
  });
  setEditor(canvas);
  styleCanvas(canvas);
  hook(canvas);
  showWayBack(canvas);
  resize(canvas);
  window.addEventListener("resize", () => resize(canvas));
  document.addEventListener("keydown", (event) => onKey(canvas, event));
  acceptFiles();
  byId("toggle-sidebar").onclick = () => {
    const sidebar = byId("sidebar");
    sidebar.hidden = !sidebar.hidden;
    byId("toggle-sidebar").setAttribute("aria-pressed", String(!sidebar.hidden));
  };
  canvas.startRendering();
  return canvas;
}

/** Told once, when the page is opened for the first time with nothing but the random checkpoint. */
export function firstVisitNotice(note: string): void {
  const seen = "comfy.noticeSeen";
  try {
    if (localStorage.getItem(seen) === note) return;
  } catch {
    // Without storage the notice simply comes back.
  }
  const close = h("button", { class: "primary", textContent: "Got it" });
  const box = byId("notice");
  box.replaceChildren(h("p", {}, note), close);
  box.hidden = false;
  close.onclick = () => {
    box.hidden = true;
    try {
      localStorage.setItem(seen, note);
    } catch {
      // As above.
    }
  };
}


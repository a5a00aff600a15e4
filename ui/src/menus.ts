/** Menus of the canvas; litegraph's own offer things a ComfyUI graph has no use for. */

import { ContextMenu, LGraphCanvas, LGraphGroup, LiteGraph, SubgraphNode, type LGraphNode } from "@comfyorg/litegraph";
import { arrange } from "./arrange";
import { editor, store } from "./app";
import { ComfyNode, MODE } from "./nodes";
import { uploadInput, viewInputPicture } from "./uploads";
import { enter, makeSubgraph } from "./subgraphs";
import { openMaskEditor } from "./ui/maskeditor";
import { openSearch } from "./ui/search";
import { fitView } from "./view";

type MenuEntries = ReturnType<LGraphCanvas["getCanvasMenuOptions"]>;

/** Sets the mode of the selected nodes, or takes it away when all of them have it. */
export function setMode(canvas: LGraphCanvas, mode: number): void {
  const nodes = Object.values(canvas.selected_nodes);
  const all = nodes.every((node) => node.mode === mode);
  for (const node of nodes) node.mode = all ? MODE.always : mode;
  canvas.setDirty(true, true);
  store.emit("graph");
  store.emit("selection");
}

/** Draws a group around what is selected. */
export function groupSelected(): void {
  const canvas = editor();
  if (canvas.selectedItems.size === 0 || !canvas.graph) return;
  const group = new LGraphGroup("Group");
  group.resizeTo(canvas.selectedItems, 12);
  canvas.graph.add(group);
  canvas.setDirty(true, true);
  store.emit("graph");
}

/** litegraph prints menu titles as markup; some come from workflow files. */
class SafeMenu extends ContextMenu<unknown> {
  constructor(...[values, options]: ConstructorParameters<typeof ContextMenu<unknown>>) {
    if (options.title) options.title = String(options.title).replace(/[&<>"']/g, " ");
    super(values, options);
  }
}

function nodeMenu(canvas: LGraphCanvas, node: LGraphNode): unknown[] {
  const changed = (action: () => void) => () => {
    if (!canvas.selected_nodes[node.id]) canvas.selectNode(node);
    action();
    canvas.setDirty(true, true);
    store.emit("graph");
  };
  const loads = node instanceof ComfyNode && uploadInput(node) !== undefined;
  return [
    ...(node instanceof SubgraphNode ? [{ content: "Open the subgraph", callback: () => enter(node) }, null] : []),
    ...(loads ? [
      { content: "Draw a mask…", callback: () => openMaskEditor(node) },
      { content: "View the picture", callback: () => viewInputPicture(node) },
      null,
    ] : []),
    { content: node.collapsed ? "Expand" : "Collapse", callback: changed(() => node.collapse(true)) },
    { content: node.mode === MODE.mute ? "Unmute" : "Mute", callback: changed(() => setMode(canvas, MODE.mute)) },
    { content: node.mode === MODE.bypass ? "Stop bypassing" : "Bypass", callback: changed(() => setMode(canvas, MODE.bypass)) },
    { content: node.pinned ? "Unpin" : "Pin", callback: changed(() => node.pin()) },
    { content: "Colours", has_submenu: true, callback: LGraphCanvas.onMenuNodeColors },
    { content: "Fit size", callback: changed(() => node.setSize(node.computeSize())) },
    null,
    { content: "Group", callback: changed(groupSelected) },
    { content: "Make a subgraph", callback: changed(makeSubgraph) },
    { content: "Clone", callback: LGraphCanvas.onMenuNodeClone },
    { content: "Remove", callback: changed(() => canvas.deleteSelected()) },
  ];
}

function canvasMenu(canvas: LGraphCanvas): unknown[] {
  const at = [...canvas.graph_mouse] as [number, number];
  const screen = [...canvas.mouse] as [number, number];
  return [
    { content: "Add node…", callback: () => openSearch(screen, at) },
    { content: "Add group", callback: LGraphCanvas.onGroupAdd },
    { content: "Paste", callback: () => canvas.pasteFromClipboard({ position: at }) },
    null,
    { content: "Arrange", callback: arrange },
    { content: "Show everything", callback: fitView },
  ];
}

export function startMenus(canvas: LGraphCanvas): void {
  LiteGraph.ContextMenu = SafeMenu as typeof ContextMenu;
  canvas.getMenuOptions = () => canvasMenu(canvas) as MenuEntries;
  canvas.getNodeMenuOptions = (node) =>
    nodeMenu(canvas, node) as ReturnType<LGraphCanvas["getNodeMenuOptions"]>;
}

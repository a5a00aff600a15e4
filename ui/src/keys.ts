/** The keyboard shortcuts of the page, as ComfyUI has them: one table for the keys and for their list. */

import type { LGraphCanvas } from "@comfyorg/litegraph";
import { arrange } from "./arrange";
import { editor, store } from "./app";
import { byId } from "./dom";
import { download } from "./files";
import { refresh } from "./live";
import { written } from "./keyname";
import { groupSelected, setMode } from "./menus";
import { MODE } from "./nodes";
import { cancel, run, runBatch } from "./runner";
import { makeSubgraph } from "./subgraphs";
import { redo, undo } from "./undo";
import { openGallery } from "./ui/gallerypage";
import { openSearch } from "./ui/search";
import { showShortcuts } from "./ui/shortcuts";
import { saveOnServer } from "./serverflows";
import { toggleDock } from "./ui/docks";
import { toast } from "./ui/toasts";
import { fitView, zoomBy } from "./view";

export interface Shortcut {
  /** As shown, with `Ctrl`, `Alt` and `Shift` in that order; the first one that fits counts. */
  keys: string[];
  does: string;
  /** How the list writes the keys where the first of them will not do. */
  shown?: string;
  /** Works in text fields too. */
  anywhere?: boolean;
  /** What happens; unset for keys that the canvas itself knows. */
  run?: (event: KeyboardEvent) => void;
}

function eachSelected(change: (canvas: LGraphCanvas) => void): void {
  change(editor());
  editor().setDirty(true, true);
  store.emit("graph");
  store.emit("selection");
}

const STEP = 10;

/** Moves the selected nodes by a step. */
function nudge({ key }: KeyboardEvent): void {
  const [x, y] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[key] ?? [0, 0];
  eachSelected((canvas) => {
    for (const item of canvas.selectedItems) if (!item.pinned) item.move(x ?? 0, y ?? 0);
  });
}

function search(): void {
  const canvas = editor();
  const [x, y] = canvas.mouse;
  openSearch([x, y], [...canvas.graph_mouse] as [number, number]);
}

export const SHORTCUTS: Shortcut[] = [
  { keys: ["Ctrl+Enter"], does: "Run", anywhere: true, run: () => void runBatch() },
  { keys: ["Ctrl+Shift+Enter"], does: "Run before everything that waits", anywhere: true, run: () => void run({ front: true }) },
  { keys: ["Ctrl+Alt+Enter"], does: "Cancel the running job", anywhere: true, run: () => void cancel() },
  { keys: ["Ctrl+Z"], does: "Undo", run: undo },
  { keys: ["Ctrl+Y", "Ctrl+Shift+Z"], does: "Redo", run: redo },
  { keys: ["Ctrl+S"], does: "Save on the server", anywhere: true, run: () => void saveOnServer() },
  { keys: ["Ctrl+Shift+S"], does: "Save to a file", anywhere: true, run: download },
  { keys: ["Ctrl+O"], does: "Open a file", anywhere: true, run: () => byId("file").click() },
  { keys: ["Ctrl+A"], does: "Select everything" },
  { keys: ["Ctrl+C"], does: "Copy" },
  { keys: ["Ctrl+V"], does: "Paste nodes or a picture" },
  { keys: ["Ctrl+Shift+V"], does: "Paste with its connections" },
  { keys: ["Del"], does: "Remove what is selected" },
  { keys: ["Ctrl+M"], does: "Mute", run: () => setMode(editor(), MODE.mute) },
  { keys: ["Ctrl+B"], does: "Bypass", run: () => setMode(editor(), MODE.bypass) },
  { keys: ["Ctrl+G"], does: "Group what is selected", run: groupSelected },
  { keys: ["Ctrl+Shift+E"], does: "Make a subgraph of what is selected", run: makeSubgraph },
  { keys: ["Alt+C"], does: "Collapse or expand", run: () => eachSelected((canvas) => Object.values(canvas.selected_nodes).forEach((node) => node.collapse())) },
  { keys: ["P"], does: "Pin or unpin", run: () => eachSelected((canvas) => Object.values(canvas.selected_nodes).forEach((node) => node.pin())) },
  { keys: ["Ctrl+ArrowLeft", "Ctrl+ArrowRight", "Ctrl+ArrowUp", "Ctrl+ArrowDown"], shown: "Ctrl+Arrows", does: "Move what is selected", run: nudge },
  { keys: ["Space"], does: "Find a node to add (hold and drag: move the view)", run: search },
  { keys: ["N"], does: "Nodes", run: () => toggleDock("palette") },
  { keys: ["W"], does: "Workflows", run: () => toggleDock("workflows") },
  { keys: ["Q"], does: "Queue and history", run: () => toggleDock("queue-panel") },
  { keys: ["G"], does: "Gallery", run: () => openGallery() },
  { keys: ["I"], does: "Side panel", run: () => byId("toggle-sidebar").click() },
  { keys: ["Alt+M"], does: "Minimap", run: () => byId("toggle-minimap").click() },
  { keys: ["F", "."], does: "Show everything", run: fitView },
  { keys: ["Shift+A"], does: "Arrange the nodes", run: arrange },
  { keys: ["Alt+="], does: "Zoom in", run: () => zoomBy(1.2) },
  { keys: ["Alt+-"], does: "Zoom out", run: () => zoomBy(1 / 1.2) },
  { keys: ["R"], does: "Read nodes and model files again", run: () => void refresh().then(() => toast("info", "Nodes and checkpoints were read again.")) },
  { keys: ["?", "Shift+?"], does: "This list", run: () => showShortcuts(SHORTCUTS) },
];

function typingIn(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

function find(event: KeyboardEvent): Shortcut | undefined {
  const pressed = written(event);
  return SHORTCUTS.find(({ keys, run: does }) => does && keys.includes(pressed));
}

/** Space is held to move the view; pressed alone it opens the search. */
let spaceAlone = false;

function onKeyDown(event: KeyboardEvent): void {
  const shortcut = find(event);
  if (!shortcut?.run) return;
  const inField = typingIn(event.target);
  if (inField && !shortcut.anywhere) return;
  if (shortcut.keys[0] === "Space") {
    // A focused button is pressed with the same key.
    if (event.target instanceof HTMLElement && event.target.closest("button, summary, a")) return;
    if (!event.repeat) spaceAlone = true;
    return;
  }
  event.preventDefault();
  // A field still being typed in reports its value when it loses the focus.
  if (inField && document.activeElement instanceof HTMLElement) document.activeElement.blur();
  shortcut.run(event);
}

export function startKeys(): void {
  document.addEventListener("keydown", onKeyDown);
  window.addEventListener("pointerdown", () => (spaceAlone = false), true);
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || !spaceAlone) return;
    spaceAlone = false;
    if (!typingIn(event.target) && !document.querySelector("dialog[open]")) search();
  });
}

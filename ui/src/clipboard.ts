/** Copy, cut and paste: nodes travel through the system clipboard, pictures become inputs. */

import { editor, store } from "./app";
import { addPictures } from "./pictureinput";

/** Where litegraph keeps what was copied. */
const KEPT = "litegrapheditor_clipboard";
/** Begins the text on the clipboard, so that nodes are told from other text. */
const MARK = "comfy-nodes:";

/** Whether a clipboard event is meant for the canvas. */
function forCanvas(event: Event): boolean {
  const target = event.target;
  if (target instanceof HTMLElement && target.closest("input, textarea, select, dialog")) return false;
  // Text that is marked on the page is copied as text.
  return (document.getSelection()?.toString() ?? "") === "";
}

function copy(event: ClipboardEvent): boolean {
  if (!forCanvas(event) || editor().selectedItems.size === 0) return false;
  editor().copyToClipboard();
  event.clipboardData?.setData("text/plain", MARK + (localStorage.getItem(KEPT) ?? ""));
  event.preventDefault();
  return true;
}

let connecting = false;

function paste(event: ClipboardEvent): void {
  if (!forCanvas(event)) return;
  event.preventDefault();
  const data = event.clipboardData;
  const files = [...(data?.files ?? [])].filter(({ type }) => type.startsWith("image/"));
  if (files.length > 0) return void addPictures(files);
  const text = data?.getData("text/plain") ?? "";
  // Nodes copied in another window or browser come with the clipboard.
  if (text.startsWith(MARK)) localStorage.setItem(KEPT, text.slice(MARK.length));
  editor().pasteFromClipboard({ connectInputs: connecting });
  store.emit("graph");
  store.emit("selection");
}

/** Whether the clipboard's own events look after a key, so that the canvas leaves it alone. */
export function isClipboardKey(event: KeyboardEvent): boolean {
  if (!(event.ctrlKey || event.metaKey) || !["c", "v", "x"].includes(event.key.toLowerCase())) return false;
  connecting = event.shiftKey;
  return true;
}

export function startClipboard(): void {
  document.addEventListener("copy", copy);
  document.addEventListener("cut", (event) => {
    if (!copy(event)) return;
    editor().deleteSelected();
    store.emit("graph");
  });
  document.addEventListener("paste", paste);
}

/** The list of keyboard shortcuts. */

import type { Shortcut } from "../keys";
import { h } from "../dom";
import { openDialog } from "./dialog";

export function showShortcuts(shortcuts: readonly Shortcut[]): void {
  const rows = shortcuts.map(({ keys, shown, does }) => h("div", {}, does, h("kbd", {}, shown ?? keys[0])));
  openDialog(
    { name: "keys", title: "Keyboard shortcuts" },
    h("div", { class: "keys-list" }, ...rows),
    h("p", { class: "dim", style: "margin:14px 0 0" }, "Mouse: double click finds a node to add; Alt and a click on a link bends it; Ctrl and dragging selects; Alt and dragging clones; dropping a link on nothing offers what fits."),
  );
}

/** A text that a node answered with, whole: to read, select and copy. */

import { h } from "../dom";
import { openDialog } from "./dialog";
import { toast } from "./toasts";

export function openText(title: string, text: string): void {
  const copy = h("button", { textContent: "Copy" });
  copy.onclick = () =>
    void navigator.clipboard.writeText(text).then(
      () => toast("good", "Copied."),
      (error: Error) => toast("error", `The text was not copied: ${error.message}`),
    );
  openDialog({ name: "text-view", title, actions: [copy] }, h("pre", { tabIndex: 0 }, text));
}

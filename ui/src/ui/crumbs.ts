/** Where in the workflow the canvas is: the subgraphs that were opened, and the way back. */

import { editor, store } from "../app";
import { byId, h } from "../dom";
import { currentWay, goInto } from "../subgraphs";
import { fitView } from "../view";

export function startCrumbs(): void {
  const box = byId("crumbs");
  const canvas = editor();
  canvas.canvas.addEventListener("litegraph:set-graph", () => {
    const way = currentWay();
    box.hidden = way.length === 0;
    const root = h("button", { id: "back", class: "ghost", textContent: "Workflow", onclick: () => goInto([]) });
    const inner = way.map((node, index) => {
      const last = index === way.length - 1;
      const open = (): void => goInto(way.slice(0, index + 1));
      return h("button", { class: "ghost", textContent: `› ${node.title}`, disabled: last, onclick: open });
    });
    box.replaceChildren(root, ...inner);
    fitView();
    store.emit("selection");
  });
}

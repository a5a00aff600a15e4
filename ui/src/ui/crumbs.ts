/** Where in the workflow the canvas is: the subgraphs that were opened, and the way back. */

import type { LGraph } from "@comfyorg/litegraph";
import { editor, graph, store } from "../app";
import { byId, h } from "../dom";
import { wayTo } from "../subgraphs";
import { fitView } from "../view";

export function startCrumbs(): void {
  const box = byId("crumbs");
  const canvas = editor();
  const go = (to: LGraph): void => canvas.setGraph(to as never);
  canvas.canvas.addEventListener("litegraph:set-graph", () => {
    const way = wayTo(canvas.graph as LGraph) ?? [];
    box.hidden = way.length === 0;
    const root = h("button", { id: "back", class: "ghost", textContent: "Workflow", onclick: () => go(graph) });
    const inner = way.map((node, index) => {
      const last = index === way.length - 1;
      const open = (): void => go(node.subgraph as unknown as LGraph);
      return h("button", { class: "ghost", textContent: `› ${node.title}`, disabled: last, onclick: open });
    });
    box.replaceChildren(root, ...inner);
    fitView();
    store.emit("selection");
  });
}

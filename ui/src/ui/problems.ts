/** The list of what is wrong with the workflow; a click goes to the node. */

import { editor, store } from "../app";
import { byId, h } from "../dom";
import { icon } from "../icons";
import { goToNode } from "../subgraphs";

function render(): void {
  const panel = byId("problems");
  const { problems } = store;
  panel.hidden = problems.length === 0;
  editor().setDirty(true, true);
  if (problems.length === 0) return panel.replaceChildren();
  const close = h("button", { class: "ghost close", title: "Dismiss", attrs: { "aria-label": "Dismiss" } }, icon("close"));
  close.onclick = () => store.setProblems([]);
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  panel.replaceChildren(
    h("h2", {}, count, close),
    ...problems.map(({ nodeId, title, input, text }) => {
      const where = [title, nodeId && `#${nodeId}`, input].filter(Boolean).join(" · ");
      const item = h("button", { class: "problem" }, h("b", {}, where), h("span", {}, text));
      if (nodeId !== undefined) item.onclick = () => goToNode(nodeId);
      return item;
    }),
  );
}

export function startProblems(): void {
  store.on("problems", render);
}

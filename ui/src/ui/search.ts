/** The search box on the canvas: opened by a double click or by dropping a link on nothing. */

import type { LGraphNode } from "@comfyorg/litegraph";
import type { NodeSpec } from "../api";
import { addNode } from "../addnode";
import { editor, store } from "../app";
import { h } from "../dom";
import { fits, rank, typesFit, type OpenEnd } from "../rank";
import { typeColour } from "../theme";
import { openDialog } from "./dialog";

/** A link dropped on nothing: which slot of which node it comes from. */
export interface Loose extends OpenEnd {
  node: LGraphNode;
  slot: number;
}

const SHOWN = 60;

function sockets(title: string, list: { name: string; type: string }[]): Node[] {
  if (list.length === 0) return [];
  const rows = list.map(({ name, type }) =>
    h("div", { class: "socket" }, h("i", { style: `background:${typeColour(type)}` }), name, h("small", { class: "dim" }, name === type ? "" : type)),
  );
  return [h("h2", { style: "margin:8px 0 3px" }, title), ...rows];
}

function about(spec: NodeSpec | undefined): Node[] {
  if (!spec) return [];
  const inputs = spec.inputs.filter(({ group, widget }) => group !== "hidden" && !widget);
  return [
    h("b", {}, spec.display_name || spec.class),
    h("p", { class: "dim" }, spec.description || spec.class),
    ...sockets("Takes", inputs),
    ...sockets("Gives", spec.outputs),
  ];
}

/** Connects the node just added with the link that was dropped. */
function connect(made: LGraphNode, loose: Loose): void {
  if (loose.wants === "input") {
    const slot = made.inputs.findIndex(({ type, widget }) => !widget && typesFit(loose.type, String(type)));
    const any = slot >= 0 ? slot : made.inputs.findIndex(({ type }) => typesFit(loose.type, String(type)));
    if (any >= 0) loose.node.connect(loose.slot, made, any);
    return;
  }
  const slot = made.outputs.findIndex(({ type }) => typesFit(String(type), loose.type));
  if (slot >= 0) made.connect(slot, loose.node, loose.slot);
}

/** Opens the box at a point of the window; the chosen node goes to `at` in the graph. */
export function openSearch(screen: [number, number], at: [number, number], loose?: Loose): void {
  const field = h("input", {
    type: "search", placeholder: loose ? `Nodes that fit ${loose.type}` : "Find a node", spellcheck: false,
    attrs: { "aria-label": "Find a node", role: "combobox", "aria-expanded": "true", "aria-controls": "search-list" },
  });
  const list = h("div", { class: "search-list", id: "search-list", attrs: { role: "listbox" } });
  const side = h("div", { class: "search-about" });
  const dialog = openDialog({ name: "search", title: "Add a node" }, field, list, side);
  const { element } = dialog;
  element.style.left = `${Math.max(8, Math.min(screen[0] - 40, window.innerWidth - 576))}px`;
  element.style.top = `${Math.max(8, Math.min(screen[1] - 20, window.innerHeight - 380))}px`;
  let marked = 0;
  let found: NodeSpec[] = [];
  const mark = (index: number): void => {
    marked = Math.max(0, Math.min(index, found.length - 1));
    [...list.children].forEach((child, i) => child.setAttribute("aria-selected", String(i === marked)));
    list.children[marked]?.scrollIntoView({ block: "nearest" });
    side.replaceChildren(...about(found[marked]));
  };
  const pick = (spec: NodeSpec | undefined): void => {
    dialog.close();
    if (!spec) return;
    const node = addNode(spec.class, at);
    if (node && loose) connect(node, loose);
    editor().canvas.focus();
    store.emit("graph");
  };
  const render = (): void => {
    const offered = [...store.specs.values()].filter((spec) => !loose || fits(spec, loose));
    found = rank(offered, field.value).slice(0, SHOWN);
    list.replaceChildren(
      ...found.map((spec, index) => {
        const item = h("button", { class: "search-item", tabIndex: -1, attrs: { role: "option" } });
        item.append(spec.display_name || spec.class, h("small", {}, spec.category ?? ""));
        item.onclick = () => pick(spec);
        item.onpointermove = () => marked !== index && mark(index);
        return item;
      }),
    );
    if (found.length === 0) list.append(h("p", { class: "dim" }, "No node matches."));
    mark(0);
  };
  field.oninput = render;
  element.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") mark(marked + 1);
    else if (event.key === "ArrowUp") mark(marked - 1);
    else if (event.key === "Enter") pick(found[marked]);
    else return;
    event.preventDefault();
  });
  render();
  field.focus();
}

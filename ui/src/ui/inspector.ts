/** The Node Inspector: every field of the selected node, editable. */

import { SubgraphNode, type LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "../litegraph";
import type { InputSpec, WidgetSpec } from "../api";
import { editor, store } from "../app";
import { byId, h } from "../dom";
import { icon } from "../icons";
import { ComfyNode, MODE } from "../nodes";
import { inputPicture, uploadInput } from "../uploads";
import { messagesOf, phaseOf } from "../nodeview";
import { assign } from "../widgets/assign";
import { ComboField } from "../widgets/combo";
import { TextField } from "../widgets/text";
import { CONTROL_NAME, readNumber, showNumber } from "../widgets/values";
import { goToNode, pathId } from "../subgraphs";
import { openMaskEditor } from "./maskeditor";
import { sourceSelect } from "./sources";

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

function selected(): LGraphNode | undefined {
  const nodes = Object.values(editor().selected_nodes);
  return nodes.length === 1 ? nodes[0] : undefined;
}

function numberControl(node: LGraphNode, widget: IBaseWidget, spec: WidgetSpec & { kind: "int" | "float" }): Control {
  const input = h("input", { type: "text", inputMode: "decimal", value: showNumber(spec, widget.value) });
  const limits = [spec.min !== undefined && `from ${spec.min}`, spec.max !== undefined && `to ${spec.max}`];
  input.title = limits.filter(Boolean).join(" ");
  input.onchange = () => {
    const value = readNumber(spec, input.value);
    input.classList.toggle("invalid", value === undefined);
    if (value === undefined) return;
    assign(node, widget, value);
    input.value = showNumber(spec, value);
  };
  return input;
}

function comboControl(node: LGraphNode, widget: ComboField): Control {
  const values = widget.known ? widget.choices : [String(widget.value ?? ""), ...widget.choices];
  const options = values.map((value) =>
    h("option", { value, textContent: value || "none", selected: value === widget.value }),
  );
  const select = h("select", {}, ...options);
  select.onchange = () => assign(node, widget, select.value);
  return select;
}

function control(node: LGraphNode, widget: IBaseWidget, spec: WidgetSpec | undefined): Control | undefined {
  if (widget instanceof ComboField) return comboControl(node, widget);
  if (spec?.kind === "int" || spec?.kind === "float") return numberControl(node, widget, spec);
  if (widget instanceof TextField) {
    const value = String(widget.value ?? "");
    const field = widget.multiline ? h("textarea", { value, rows: 4 }) : h("input", { type: "text", value });
    field.oninput = () => assign(node, widget, field.value);
    return field;
  }
  if (widget.type === "toggle") {
    const box = h("input", { type: "checkbox", checked: widget.value === true });
    box.onchange = () => assign(node, widget, box.checked);
    return box;
  }
  return undefined;
}

/** The node an input comes from, to go to. */
function origin(node: LGraphNode, slot: number): HTMLElement | undefined {
  const from = slot < 0 ? null : node.getInputNode(slot);
  if (!from) return undefined;
  const link = h("button", { class: "link", textContent: `go to #${from.id}`, title: from.title });
  link.onclick = () => goToNode(pathId(from));
  return link;
}

function inputRow(node: ComfyNode, input: InputSpec): HTMLElement {
  const slot = node.findInputSlot(input.name);
  const linked = slot >= 0 && node.inputs[slot]?.link != null;
  const widget = node.field(input.name);
  const field = widget && !linked ? control(node, widget, input.widget) : undefined;
  const name = h("span", { class: "name", title: input.tooltip ?? "" }, input.name);
  const type = h("small", { class: "dim" }, input.group === "optional" ? `${input.type}, optional` : input.type);
  field?.setAttribute("aria-label", input.name);
  const row = h("div", { class: "row", data: { field: input.name } }, name, origin(node, slot) ?? type, field ?? "");
  if (!field && slot >= 0) row.append(sourceSelect(node, slot, input.name));
  const cover = field && widget instanceof ComboField ? widget.cover?.(String(widget.value)) : undefined;
  if (cover !== undefined) row.append(h("img", { class: "cover", src: cover, alt: `Picture of ${String(widget?.value)}` }));
  return row;
}

function controlRow(node: ComfyNode): HTMLElement[] {
  const widget = node.field(CONTROL_NAME);
  if (!(widget instanceof ComboField)) return [];
  const field = comboControl(node, widget);
  field.setAttribute("aria-label", CONTROL_NAME);
  return [h("label", { class: "row" }, h("span", { class: "name" }, "seed after each run"), h("small"), field)];
}

function modeRow(node: LGraphNode): HTMLElement {
  const names: [string, number][] = [
    ["runs", MODE.always],
    ["muted", MODE.mute],
    ["bypassed", MODE.bypass],
  ];
  const options = names.map(([textContent, mode]) =>
    h("option", { value: String(mode), textContent, selected: node.mode === mode }),
  );
  const select = h("select", {}, ...options);
  select.onchange = () => {
    node.mode = Number(select.value);
    node.setDirtyCanvas(true, true);
    store.edited(pathId(node));
    store.emit("graph");
  };
  return h("label", { class: "row" }, h("span", { class: "name" }, "mode"), h("small"), select);
}

function titleField(node: LGraphNode): HTMLElement {
  const input = h("input", { class: "title", value: node.title, spellcheck: false });
  input.setAttribute("aria-label", "Node title");
  input.oninput = () => {
    node.title = input.value;
    node.setDirtyCanvas(true, true);
    store.emit("graph");
  };
  return input;
}

function overview(): Node[] {
  const { specs } = store;
  if (specs.size === 0) {
    const text = "Waiting for a service that offers nodes. They can take a moment to start.";
    return [h("h2", {}, "Node Inspector"), h("p", { class: "note" }, text)];
  }
  return [
    h("h2", {}, "Node Inspector"),
    h("p", { class: "dim" }, "Select a node to see and edit its fields."),
    outline(),
  ];
}

/** The nodes in view as a list, for use without a mouse. */
function outline(): HTMLElement {
  const nodes = [...(editor().graph?.nodes ?? [])].sort((a, b) => a.pos[0] - b.pos[0] || a.pos[1] - b.pos[1]);
  const items = nodes.map((node) => {
    const phase = phaseOf(node) ?? "";
    const item = h("button", { data: { phase, node: String(node.id) }, title: String(node.type) }, node.title, h("small", { class: "dim" }, `#${node.id}`));
    item.onclick = () => {
      goToNode(pathId(node));
      byId("inspector").focus();
    };
    return h("li", {}, item);
  });
  return h("ul", { class: "outline", attrs: { "aria-label": "Nodes of the workflow" } }, ...items);
}

/** Several nodes are selected: what can be done with all of them. */
function several(count: number): Node[] {
  return [h("h2", {}, "Node Inspector"), h("p", { class: "dim" }, `${count} nodes are selected. Ctrl+G groups them, Ctrl+Shift+E makes a subgraph, Shift+A arranges them, Del removes them.`)];
}

function tools(node: ComfyNode): HTMLElement[] {
  if (uploadInput(node) === undefined) return [];
  const mask = h("button", { id: "draw-mask", disabled: !inputPicture(node), onclick: () => openMaskEditor(node) }, icon("brush"), "Draw a mask");
  return [h("div", { class: "tools" }, mask)];
}

function details(node: LGraphNode): Node[] {
  const spec = node instanceof ComfyNode ? node.spec : undefined;
  const kind = [node instanceof SubgraphNode ? "Subgraph" : node.type, `#${node.id}`, spec?.stage && `on ${spec.stage}`].filter(Boolean).join(" · ");
  const parts: Node[] = [h("h2", {}, "Node Inspector"), titleField(node), h("p", { class: "dim kind" }, kind)];
  for (const text of messagesOf(node)) parts.push(h("p", { class: "error" }, text));
  if (spec?.description) parts.push(h("p", { class: "about" }, spec.description));
  if (node instanceof ComfyNode) parts.push(...tools(node));
  parts.push(modeRow(node));
  if (!(node instanceof ComfyNode) || !spec) return parts;
  for (const input of node.live) {
    if (input.group === "hidden") continue;
    parts.push(inputRow(node, input));
    if (input.widget?.kind === "int" && input.widget.control_after_generate) parts.push(...controlRow(node));
  }
  const outputs = spec.outputs.map(({ name, type }) => (name === type ? type : `${name} (${type})`));
  if (outputs.length > 0) parts.push(h("p", { class: "dim" }, `Gives ${outputs.join(", ")}`));
  return parts;
}

function render(): void {
  window.clearTimeout(waiting);
  const count = Object.keys(editor().selected_nodes).length;
  const node = selected();
  const focused = focusKey();
  byId("inspector").replaceChildren(...(node ? details(node) : count > 1 ? several(count) : overview()));
  if (focused) document.querySelector<HTMLElement>(focused)?.focus();
}

/** The focused control of the panel, as a selector that finds it again after a redraw. */
function focusKey(): string | undefined {
  const active = document.activeElement;
  if (!(active instanceof HTMLElement) || !byId("inspector").contains(active)) return undefined;
  const field = active.closest<HTMLElement>("[data-field]")?.dataset.field;
  if (field !== undefined) return `#inspector [data-field="${CSS.escape(field)}"] :is(input, select, textarea)`;
  return active.dataset.node === undefined ? undefined : `#inspector [data-node="${active.dataset.node}"]`;
}

let waiting: number | undefined;

/** Redraws, unless the user is typing in the panel: the canvas then follows the panel. */
function renderUnlessTyping(): void {
  window.clearTimeout(waiting);
  // A field that is left reports its value before the next one has the focus.
  waiting = window.setTimeout(() => {
    const active = document.activeElement;
    const typing = active instanceof HTMLElement && active.matches('#inspector :is(input:not([type="checkbox"]), textarea)');
    if (!typing) render();
  });
}

/** What the panel shows of the state, so that progress events do not rebuild it. */
function messageKey(): string {
  const node = selected();
  if (node) return `${node.id}|${messagesOf(node).join("|")}`;
  return [...(store.paintedJob()?.nodes.values() ?? [])].map(({ phase }) => phase).join();
}

export function startInspector(): void {
  render();
  let key = "";
  store.on("selection", render);
  store.on("graph", renderUnlessTyping);
  store.on("catalog", renderUnlessTyping);
  store.on("problems", renderUnlessTyping);
  store.on("jobs", () => {
    const next = messageKey();
    if (next !== key) renderUnlessTyping();
    key = next;
  });
}

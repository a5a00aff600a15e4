/** The Node Inspector: every field of the selected node, editable. */

import type { LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "../litegraph";
import type { InputSpec, WidgetSpec } from "../api";
import { editor, graph, store } from "../app";
import { byId, h } from "../dom";
import { ComfyNode, MODE } from "../nodes";
import { messagesOf } from "../nodeview";
import { assign } from "../widgets/assign";
import { ComboField } from "../widgets/combo";
import { TextField } from "../widgets/text";
import { CONTROL_NAME, readNumber, showNumber } from "../widgets/values";
import { goToNode } from "./problems";

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

function source(node: LGraphNode, slot: number): HTMLElement {
  const origin = node.getInputNode(slot);
  if (!origin) return h("span", { class: "dim" }, "not connected");
  const link = h("button", { class: "link", textContent: `${origin.title} #${origin.id}` });
  link.onclick = () => goToNode(String(origin.id));
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
  return h("label", { class: "row", data: { field: input.name } }, name, type, field ?? source(node, slot));
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
  const { specs, note } = store;
  const count = graph.nodes.length;
  if (specs.size === 0) {
    const text = "Waiting for a service that offers nodes. They can take a moment to start.";
    return [h("h2", {}, "Node Inspector"), h("p", { class: "note" }, text)];
  }
  return [
    h("h2", {}, "Node Inspector"),
    h("p", { class: "dim" }, `Select a node to see and edit its fields. ${count} nodes in this workflow, ${specs.size} kinds on offer.`),
    note ? h("p", { class: "note" }, note) : "",
  ].map((child) => (typeof child === "string" ? document.createTextNode(child) : child));
}

function details(node: LGraphNode): Node[] {
  const spec = node instanceof ComfyNode ? node.spec : undefined;
  const kind = [node.type, `#${node.id}`, spec?.stage && `on ${spec.stage}`].filter(Boolean).join(" · ");
  const parts: Node[] = [h("h2", {}, "Node Inspector"), titleField(node), h("p", { class: "dim kind" }, kind)];
  for (const text of messagesOf(node)) parts.push(h("p", { class: "error" }, text));
  if (spec?.description) parts.push(h("p", { class: "about" }, spec.description));
  parts.push(modeRow(node));
  if (!(node instanceof ComfyNode) || !spec) return parts;
  for (const input of spec.inputs) {
    if (input.group === "hidden") continue;
    parts.push(inputRow(node, input));
    if (input.widget?.kind === "int" && input.widget.control_after_generate) parts.push(...controlRow(node));
  }
  const outputs = spec.outputs.map(({ name, type }) => (name === type ? type : `${name} (${type})`));
  if (outputs.length > 0) parts.push(h("p", { class: "dim" }, `Gives ${outputs.join(", ")}`));
  return parts;
}

function render(): void {
  const node = selected();
  byId("inspector").replaceChildren(...(node ? details(node) : overview()));
}

/** Redraws, unless the user is typing in the panel: the canvas then follows the panel. */
function renderUnlessTyping(): void {
  const active = document.activeElement;
  const typing = active instanceof HTMLElement && active.matches("#inspector input, #inspector textarea");
  if (!typing) render();
}

/** What the panel shows of the state, so that progress events do not rebuild it. */
function messageKey(): string {
  const node = selected();
  return node ? `${node.id}|${messagesOf(node).join("|")}` : "";
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

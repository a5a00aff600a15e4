/** What a field or socket means, shown when the pointer rests on it. */

import { LiteGraph, type LGraphNode } from "@comfyorg/litegraph";
import { editor } from "../app";
import { h } from "../dom";
import { isEditorOpen } from "../editor";
import { ComfyNode } from "../nodes";
import { toGraph } from "../view";

const REST_MS = 550;

/** The words for a point of a node, from its definition. */
function words(node: LGraphNode, x: number, y: number): string | undefined {
  if (!(node instanceof ComfyNode) || !node.spec) return undefined;
  const { spec } = node;
  if (y < node.pos[1]) return spec.description || undefined;
  const widget = node.getWidgetOnPos(x, y, true);
  const slot = node.getSlotInPosition(x, y);
  const name = widget?.name ?? slot?.input?.name;
  if (name !== undefined) return node.input(name)?.tooltip;
  return spec.outputs.find((output) => output.name === slot?.output?.name)?.tooltip;
}

export function startTooltips(): void {
  const canvas = editor();
  const element = canvas.canvas;
  const box = h("div", { class: "tooltip", hidden: true, attrs: { role: "tooltip" } });
  document.body.append(box);
  let timer: number | undefined;
  const hide = (): void => {
    window.clearTimeout(timer);
    box.hidden = true;
  };
  const show = (clientX: number, clientY: number): void => {
    if (isEditorOpen() || canvas.pointer.isDown || canvas.low_quality) return;
    const [x, y] = toGraph(clientX, clientY);
    const node = canvas.graph?.getNodeOnPos(x, y) ?? canvas.graph?.getNodeOnPos(x, y + LiteGraph.NODE_TITLE_HEIGHT / 2);
    const text = node && words(node, x, y);
    if (!text) return;
    box.textContent = text;
    box.hidden = false;
    box.style.left = `${Math.min(clientX + 14, window.innerWidth - box.offsetWidth - 8)}px`;
    box.style.top = `${Math.min(clientY + 18, window.innerHeight - box.offsetHeight - 8)}px`;
  };
  element.addEventListener("pointermove", (event) => {
    hide();
    if (event.pointerType === "mouse") timer = window.setTimeout(() => show(event.clientX, event.clientY), REST_MS);
  });
  for (const end of ["pointerdown", "pointerleave", "wheel"]) element.addEventListener(end, hide, { passive: true });
}

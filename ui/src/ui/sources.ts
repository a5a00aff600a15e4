/** What an input is connected to, as a choice: the way to connect nodes without a mouse. */

import type { LGraphNode } from "@comfyorg/litegraph";
import { store } from "../app";
import { h } from "../dom";
import { typesFit } from "../rank";

/** Whether `node` is needed by `from`, so that a link from one to the other would close a loop. */
function leadsTo(from: LGraphNode, node: LGraphNode, seen = new Set<LGraphNode>()): boolean {
  if (from === node) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return from.inputs.some((_, slot) => {
    const origin = from.getInputNode(slot);
    return origin !== null && leadsTo(origin, node, seen);
  });
}

interface Choice {
  label: string;
  connect(): void;
  current: boolean;
}

function choices(node: LGraphNode, slot: number): Choice[] {
  const input = node.inputs[slot];
  const link = node.getInputLink(slot);
  const offered = (node.graph?.nodes ?? []).flatMap((origin) => {
    if (leadsTo(origin, node)) return [];
    return origin.outputs.flatMap((output, index): Choice[] => {
      if (!typesFit(String(output.type), String(input?.type))) return [];
      return [{
        label: `${origin.title} #${origin.id} · ${output.name}`,
        connect: () => void origin.connect(index, node, slot),
        current: link?.origin_id === origin.id && link.origin_slot === index,
      }];
    });
  });
  return [{ label: "not connected", connect: () => void node.disconnectInput(slot), current: !link }, ...offered];
}

/** A select of everything the input could be connected to. */
export function sourceSelect(node: LGraphNode, slot: number, name: string): HTMLElement {
  const all = choices(node, slot);
  const options = all.map(({ label, current }, index) => h("option", { value: String(index), textContent: label, selected: current }));
  const select = h("select", { class: "source", attrs: { "aria-label": `${name} comes from` } }, ...options);
  select.onchange = () => {
    all[Number(select.value)]?.connect();
    node.setDirtyCanvas(true, true);
    store.emit("graph");
  };
  return select;
}

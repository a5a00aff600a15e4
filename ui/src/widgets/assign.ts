/** The one way a widget value changes by hand, from the canvas or the inspector. */

import type { LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "../litegraph";

type Value = IBaseWidget["value"];

export function assign(node: LGraphNode, widget: IBaseWidget, value: unknown): void {
  const old = widget.value;
  if (old === value) return;
  widget.value = value as Value;
  widget.callback?.(value);
  node.onWidgetChanged?.(widget.name, value as never, old as never, widget as never);
  if (node.graph) node.graph._version += 1;
  node.setDirtyCanvas(true, true);
}

/** Parts of a node by which it can be dragged, though a click on them does something of its own. */

import type { CanvasPointer, LGraphCanvas, LGraphNode } from "@comfyorg/litegraph";

type Click = NonNullable<CanvasPointer["onClick"]>;

/** Answers a press on such a part. litegraph itself lets no widget move its node. */
export function dragOrClick(pointer: CanvasPointer, node: LGraphNode, canvas: LGraphCanvas, click: Click): void {
  pointer.onClick = click;
  // Whatever becomes of the press: litegraph would take the widget for the one in use ever after.
  pointer.finally = () => (canvas.node_widget = null);
  if (!canvas.allow_dragnodes) return;
  pointer.onDragStart = ({ eDown }) => {
    canvas.emitBeforeChange();
    canvas.graph?.beforeChange();
    pointer.finally = () => {
      canvas.isDragging = false;
      canvas.node_widget = null;
      canvas.graph?.afterChange();
      canvas.emitAfterChange();
    };
    canvas.processSelect(node, eDown, true);
    canvas.isDragging = true;
  };
  pointer.onDragEnd = ({ shiftKey }) => {
    if (shiftKey) canvas.graph?.snapToGrid(canvas.selectedItems);
    canvas.setDirty(true, true);
  };
}

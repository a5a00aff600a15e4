/** Fingers on the canvas: two zoom and move the view, one held still opens the menu. */

import type { LGraphCanvas } from "@comfyorg/litegraph";

const HOLD_MS = 500;
const SLACK_PX = 8;

export function startTouch(canvas: LGraphCanvas): void {
  const element = canvas.canvas;
  const fingers = new Map<number, PointerEvent>();
  let timer: number | undefined;

  const middle = (): { x: number; y: number; apart: number } => {
    const [a, b] = [...fingers.values()] as [PointerEvent, PointerEvent];
    return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
  };
  const stopHolding = (): void => window.clearTimeout(timer);

  element.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, event);
    stopHolding();
    if (fingers.size === 1) {
      timer = window.setTimeout(() => openMenu(event), HOLD_MS);
    } else {
      // The first finger began a drag of the canvas; both together mean the view.
      canvas.pointer.reset();
      canvas.dragging_canvas = false;
      event.stopImmediatePropagation();
    }
  }, true);

  element.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (fingers.size < 2) {
      const start = Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
      if (start > SLACK_PX) stopHolding();
      return;
    }
    event.stopImmediatePropagation();
    const was = middle();
    fingers.set(event.pointerId, event);
    const now = middle();
    const { ds } = canvas;
    ds.offset[0] += (now.x - was.x) / ds.scale;
    ds.offset[1] += (now.y - was.y) / ds.scale;
    if (was.apart > 0) ds.changeScale((ds.scale * now.apart) / was.apart, [now.x, now.y], false);
    canvas.setDirty(true, true);
  }, true);

  for (const end of ["pointerup", "pointercancel"] as const) {
    element.addEventListener(end, (event) => {
      const several = fingers.size > 1;
      fingers.delete(event.pointerId);
      stopHolding();
      if (several) event.stopImmediatePropagation();
    }, true);
  }

  const openMenu = (event: PointerEvent): void => {
    fingers.clear();
    canvas.pointer.reset();
    canvas.dragging_canvas = false;
    const at = event as unknown as Parameters<LGraphCanvas["processContextMenu"]>[1];
    canvas.adjustMouseEvent(event);
    canvas.processContextMenu(canvas.graph?.getNodeOnPos(at.canvasX, at.canvasY) ?? undefined, at);
  };
}

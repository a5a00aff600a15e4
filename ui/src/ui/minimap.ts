/** The whole graph small, with the part in sight marked; dragging on it moves the view. */

import { LiteGraph } from "@comfyorg/litegraph";
import { editor } from "../app";
import { byId } from "../dom";
import { phaseOf } from "../nodeview";
import { palette } from "../theme";
import { freeArea } from "../view";

const MARGIN = 10;
const KEY = "comfy.minimapHidden";

interface Frame {
  scale: number;
  x: number;
  y: number;
}

/** The part of the graph the map shows: every node and the view. */
function frame(width: number, height: number): Frame {
  const canvas = editor();
  const nodes = canvas.graph?.nodes ?? [];
  const left = Math.min(...nodes.map(({ pos }) => pos[0]));
  const top = Math.min(...nodes.map(({ pos }) => pos[1] - LiteGraph.NODE_TITLE_HEIGHT));
  const right = Math.max(...nodes.map(({ pos, size }) => pos[0] + size[0]));
  const bottom = Math.max(...nodes.map(({ pos, size }) => pos[1] + size[1]));
  const scale = Math.min((width - 2 * MARGIN) / (right - left), (height - 2 * MARGIN) / (bottom - top), 0.2);
  return { scale, x: width / 2 - (scale * (left + right)) / 2, y: height / 2 - (scale * (top + bottom)) / 2 };
}

/** What is in sight, in graph units. */
function inSight(): DOMRect {
  const { scale, offset } = editor().ds;
  const area = freeArea();
  return new DOMRect(area.x / scale - offset[0], area.y / scale - offset[1], area.width / scale, area.height / scale);
}

function draw(map: HTMLCanvasElement): void {
  const canvas = editor();
  const { clientWidth: width, clientHeight: height } = map;
  const ratio = window.devicePixelRatio || 1;
  if (map.width !== Math.round(width * ratio)) [map.width, map.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const ctx = map.getContext("2d");
  const nodes = canvas.graph?.nodes ?? [];
  if (!ctx) return;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  if (nodes.length === 0) return;
  const { scale, x, y } = frame(width, height);
  for (const group of canvas.graph?.groups ?? []) {
    ctx.fillStyle = `${palette.widgetLine}66`;
    ctx.fillRect(x + group.pos[0] * scale, y + group.pos[1] * scale, group.size[0] * scale, group.size[1] * scale);
  }
  for (const node of nodes) {
    const phase = phaseOf(node);
    ctx.fillStyle = node.is_selected ? palette.outline : phase ? palette[phase] : String(node.color ?? palette.mapNode);
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    const tall = node.flags.collapsed ? title : node.size[1] + title;
    ctx.fillRect(x + node.pos[0] * scale, y + (node.pos[1] - title) * scale, Math.max(2, node.size[0] * scale - 1), Math.max(2, tall * scale - 1));
  }
  drawView(ctx, { scale, x, y }, width, height);
}

/** The part in sight; where it goes beyond the map, its edge runs along that of the map. */
function drawView(ctx: CanvasRenderingContext2D, { scale, x, y }: Frame, width: number, height: number): void {
  const view = inSight();
  const left = Math.max(2, x + view.x * scale);
  const top = Math.max(2, y + view.y * scale);
  const right = Math.min(width - 2, x + view.right * scale);
  const bottom = Math.min(height - 2, y + view.bottom * scale);
  ctx.strokeStyle = palette.outline;
  ctx.lineWidth = 1.5;
  ctx.strokeRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
}

/** Centres the view on a point of the map. */
function goTo(map: HTMLCanvasElement, event: PointerEvent, held: Frame): void {
  const box = map.getBoundingClientRect();
  const { ds } = editor();
  const area = freeArea();
  const graphX = (event.clientX - box.x - held.x) / held.scale;
  const graphY = (event.clientY - box.y - held.y) / held.scale;
  ds.offset[0] = (area.x + area.width / 2) / ds.scale - graphX;
  ds.offset[1] = (area.y + area.height / 2) / ds.scale - graphY;
  editor().setDirty(true, true);
}

function hidden(): boolean {
  try {
    return localStorage.getItem(KEY) === "yes";
  } catch {
    return false;
  }
}

export function startMinimap(): void {
  const map = byId<HTMLCanvasElement>("minimap");
  const toggle = byId("toggle-minimap");
  const show = (on: boolean): void => {
    map.hidden = !on;
    toggle.setAttribute("aria-pressed", String(on));
  };
  show(!hidden());
  toggle.onclick = () => {
    show(map.hidden);
    try {
      localStorage.setItem(KEY, map.hidden ? "yes" : "no");
    } catch {
      // The map then comes back at the next visit.
    }
  };
  let held: Frame | undefined;
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    // The scale stays while dragging, or the map would run away under the pointer.
    held = frame(map.clientWidth, map.clientHeight);
    goTo(map, event, held);
  });
  map.addEventListener("pointermove", (event) => held && goTo(map, event, held));
  for (const end of ["pointerup", "pointercancel"] as const) map.addEventListener(end, () => (held = undefined));
  // It follows whatever the canvas draws, at most once a frame and only then.
  const canvas = editor();
  const drawn = canvas.draw.bind(canvas);
  canvas.draw = (force, background) => {
    const moved = canvas.dirty_canvas || canvas.dirty_bgcanvas || force;
    drawn(force, background);
    if (moved && !map.hidden) draw(map);
  };
  canvas.setDirty(true, true);
}

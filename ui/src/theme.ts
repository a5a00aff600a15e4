/** Colours of the canvas, for dark and light, following `prefers-color-scheme`. */

import { LGraphCanvas, LiteGraph, RenderShape } from "@comfyorg/litegraph";

export interface Palette {
  canvas: string;
  dot: string;
  nodeTitle: string;
  nodeBody: string;
  outline: string;
  text: string;
  dim: string;
  widget: string;
  widgetLine: string;
  mapNode: string;
  queued: string;
  running: string;
  cached: string;
  done: string;
  failed: string;
  onState: string;
}

export const DARK: Palette = {
  canvas: "#16181d",
  dot: "#333845",
  nodeTitle: "#2b303b",
  nodeBody: "#22262f",
  outline: "#8ab4ff",
  text: "#e4e7ee",
  dim: "#949bab",
  widget: "#181b22",
  widgetLine: "#3a4150",
  mapNode: "#4a5265",
  queued: "#77809a",
  running: "#4c9dff",
  cached: "#a583f2",
  done: "#3fbf7f",
  failed: "#f7626b",
  onState: "#0e1116",
};

export const LIGHT: Palette = {
  canvas: "#eceef2",
  dot: "#cdd2dc",
  nodeTitle: "#dfe3ea",
  nodeBody: "#fbfcfd",
  outline: "#1a61bf",
  text: "#1c212b",
  dim: "#5d6677",
  widget: "#eef0f4",
  widgetLine: "#c4cad6",
  mapNode: "#aeb6c4",
  queued: "#667084",
  running: "#1f6bc9",
  cached: "#7c56d8",
  done: "#17794a",
  failed: "#cf303c",
  onState: "#ffffff",
};

const TYPE_COLOURS: Record<string, string> = {
  MODEL: "#b39ddb",
  CLIP: "#ffd166",
  VAE: "#ff7b89",
  CONDITIONING: "#ffa552",
  LATENT: "#f178d0",
  IMAGE: "#64b5f6",
  MASK: "#81c784",
  CONTROL_NET: "#4dd0b1",
  CLIP_VISION: "#a8dadc",
  CLIP_VISION_OUTPUT: "#c3b58d",
  STYLE_MODEL: "#c2ffae",
  UPSCALE_MODEL: "#8fd3c8",
  SAMPLER: "#cdddb0",
  SIGMAS: "#cfd8dc",
  NOISE: "#b0bec5",
  GUIDER: "#66d9ff",
  INT: "#29b6a8",
  FLOAT: "#5fb4e8",
  STRING: "#8bc48a",
  BOOLEAN: "#c78bd6",
  COMBO: "#8d9bb0",
};

const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

export let palette: Palette = DARK;

function apply(): void {
  const p = palette;
  Object.assign(LiteGraph, {
    NODE_TITLE_COLOR: p.text,
    NODE_SELECTED_TITLE_COLOR: p.text,
    NODE_TEXT_COLOR: p.dim,
    NODE_TEXT_HIGHLIGHT_COLOR: p.text,
    NODE_DEFAULT_COLOR: p.nodeTitle,
    NODE_DEFAULT_BGCOLOR: p.nodeBody,
    NODE_DEFAULT_BOXCOLOR: p.dim,
    NODE_BOX_OUTLINE_COLOR: p.outline,
    NODE_ERROR_COLOUR: p.failed,
    NODE_DEFAULT_SHAPE: RenderShape.ROUND,
    NODE_FONT: FONT,
    DEFAULT_FONT: FONT,
    GROUP_FONT: FONT,
    NODE_SUBTEXT_SIZE: 12,
    WIDGET_BGCOLOR: p.widget,
    WIDGET_OUTLINE_COLOR: p.widgetLine,
    WIDGET_TEXT_COLOR: p.text,
    WIDGET_SECONDARY_TEXT_COLOR: p.dim,
    WIDGET_DISABLED_TEXT_COLOR: p.widgetLine,
    LINK_COLOR: p.dim,
    CONNECTING_LINK_COLOR: p.outline,
  });
}

/** Colours and switches of one canvas; the dots behind it are drawn by `drawGrid`. */
export function styleCanvas(canvas: LGraphCanvas): void {
  canvas.background_image = "";
  canvas.clear_background_color = palette.canvas;
  canvas.node_title_color = palette.text;
  canvas.default_link_color = palette.dim;
  canvas.default_connection_color = {
    input_off: palette.dim,
    input_on: palette.text,
    output_off: palette.dim,
    output_on: palette.text,
  };
  Object.assign(canvas.default_connection_color_byType, TYPE_COLOURS);
  let highlighted = canvas.highlighted_links;
  // litegraph paints the links of selected nodes white, which is no colour on a light ground.
  Object.defineProperty(canvas, "highlighted_links", {
    configurable: true,
    get: () => (palette === LIGHT ? {} : highlighted),
    set: (links) => (highlighted = links),
  });
  canvas.render_canvas_border = false;
  canvas.render_connections_border = false;
  canvas.show_info = false;
  canvas.setDirty(true, true);
}

/** Dots every 40 units, thinned out when far away. */
export function drawGrid(ctx: CanvasRenderingContext2D, area: ArrayLike<number>, scale: number): void {
  const step = scale > 0.9 ? 40 : scale > 0.4 ? 80 : 200;
  const [x0 = 0, y0 = 0, width = 0, height = 0] = Array.from(area);
  ctx.fillStyle = palette.dot;
  const size = 2 / Math.min(scale, 1);
  for (let x = Math.floor(x0 / step) * step; x < x0 + width; x += step) {
    for (let y = Math.floor(y0 / step) * step; y < y0 + height; y += step) {
      ctx.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }
}

export type Scheme = "system" | "light" | "dark";

const SCHEME_KEY = "comfy.colours";
const system = (): MediaQueryList => window.matchMedia("(prefers-color-scheme: light)");

function chosen(): Scheme {
  try {
    const stored = localStorage.getItem(SCHEME_KEY);
    return stored === "light" || stored === "dark" ? stored : "system";
  } catch {
    return "system";
  }
}

let onChange = (): void => undefined;

function set(): void {
  const scheme = chosen();
  palette = (scheme === "system" ? system().matches : scheme === "light") ? LIGHT : DARK;
  document.documentElement.style.colorScheme = scheme === "system" ? "" : scheme;
  document.documentElement.dataset.colours = scheme;
  apply();
}

/** Goes on to the next of system, light and dark; returns it. */
export function nextScheme(): Scheme {
  const order: Scheme[] = ["system", "light", "dark"];
  const next = order[(order.indexOf(chosen()) + 1) % order.length] ?? "system";
  try {
    localStorage.setItem(SCHEME_KEY, next);
  } catch {
    // The choice then lasts until the page is left.
  }
  set();
  onChange();
  return next;
}

/** Sets the colours now and again whenever the user or the system switches. */
export function followColorScheme(changed: () => void): void {
  Object.assign(LGraphCanvas.link_type_colors, TYPE_COLOURS);
  onChange = changed;
  set();
  system().addEventListener("change", () => {
    set();
    changed();
  });
}

/** The colour of links and sockets of a type. */
export function typeColour(type: string): string {
  return TYPE_COLOURS[type.split(",", 1)[0] ?? ""] ?? palette.dim;
}

export const canvasFont = (px: number, weight = "normal"): string => `${weight} ${px}px ${FONT}`;

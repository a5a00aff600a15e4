/** The icons of the page: strokes in a 16 by 16 box. */

const PATHS = {
  play: "M4.5 3v10l8-5z",
  stop: "M4 4h8v8H4z",
  undo: "M6 3 2.5 6.5 6 10M3 6.5h6a4 4 0 0 1 0 8H6",
  redo: "M10 3l3.5 3.5L10 10M13 6.5H7a4 4 0 0 0 0 8h3",
  refresh: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  panel: "M2 3h12v10H2zM10 3v10",
  nodes: "M2 3h5v4H2zM9 9h5v4H9zM7 5h2.5v4",
  folder: "M2 4h4l1.5 2H14v7H2z",
  queue: "M2 4h12M2 8h12M2 12h7",
  gallery: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  arrange: "M2 3h4v3H2zM2 10h4v3H2zM10 6.5h4v3h-4zM6 4.5h2v7H6M8 8h2",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  map: "M2 3h12v10H2zM8 8h4v3H8z",
  theme: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2C8.3 8.7 8 9.2 8 10M8 12.8v.2",
  save: "M3 2h8l3 3v9H2V2zM5 2v4h5V2M5 14v-4h6v4",
  open: "M8 10V2M5 5l3-3 3 3M2 10v4h12v-4",
  download: "M8 2v8M5 7l3 3 3-3M2 11v3h12v-3",
  share: "M11 5a2 2 0 1 0-.1-.1L5 7.5M5 8.5l6 2.7M5 8a1.8 1.8 0 1 1-3.6 0A1.8 1.8 0 0 1 5 8zM13.6 12a1.8 1.8 0 1 1-3.6 0 1.8 1.8 0 0 1 3.6 0z",
  trash: "M3 4h10M6 4V2h4v2M4.5 4l.5 10h6l.5-10",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  top: "M3 2h10M8 14V5M4.5 8.5 8 5l3.5 3.5",
  close: "M4 4l8 8M12 4l-8 8",
  brush: "M13 2 6 9M6 9c-2 0-3 1.5-3 4 2 0 4.5-.5 4.5-2.5z",
  eraser: "M6 13 2.5 9.5 9 3l4 4-6 6zM5 7l4 4M6 13h8",
  info: "M8 7v5M8 4.5v.2M2 8a6 6 0 1 0 12 0A6 6 0 1 0 2 8",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  zoomin: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5 14 14M5 7h4M7 5v4",
  image: "M2 3h12v10H2zM2 11l4-4 3 3 2-2 3 3M10.5 6h.2",
  graph: "M2 6h4v4H2zM10 2h4v4h-4zM10 10h4v4h-4zM6 8h2V4h2M8 8v4h2",
} as const;

export type IconName = keyof typeof PATHS;

const SOLID = new Set<IconName>(["play", "stop"]);
const SVG = "http://www.w3.org/2000/svg";

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  if (SOLID.has(name)) svg.classList.add("solid");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Puts the icons named by `data-icon` in front of the buttons of the page. */
export function placeIcons(): void {
  for (const element of document.querySelectorAll<HTMLElement>("[data-icon]")) {
    element.prepend(icon(element.dataset.icon as IconName));
  }
}

/** The shared store and the editor on the canvas, made once for the page. */

import { LGraph, type LGraphCanvas } from "@comfyorg/litegraph";
import { Store } from "./state";

export const store = new Store();
export const graph = new LGraph();

let canvas: LGraphCanvas | undefined;

export function setEditor(editor: LGraphCanvas): void {
  canvas = editor;
}

export function isEditing(): boolean {
  return canvas !== undefined;
}

export function editor(): LGraphCanvas {
  if (!canvas) throw new Error("the canvas is made before anything uses it");
  return canvas;
}

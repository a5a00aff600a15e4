/** Undo and redo: settled states of the workflow are remembered as text. */

import { editor, graph, store } from "./app";
import { parse, stringify } from "./bigjson";
import { isEditorOpen } from "./editor";
import { session } from "./session";
import { currentWay, goInto, wayOf } from "./subgraphs";
import { UndoLog } from "./undolog";
import { show } from "./workflow";

const SETTLE_MS = 180;

let log: UndoLog | undefined;
let timer: number | undefined;

/** The workflow as text, without what is no part of it: where the view is, which node is on top. */
function snapshot(): string {
  const data = graph.serialize({ sortNodes: true }) as { extra?: { ds?: unknown } };
  if (data.extra) delete data.extra.ds;
  return stringify(data);
}

function typing(): boolean {
  const active = document.activeElement;
  return isEditorOpen() || (active instanceof HTMLElement && active.matches("#inspector :is(input:not([type=checkbox]), textarea)"));
}

/** Remembers the canvas as it is, unless it is what was remembered last. */
export function capture(): void {
  window.clearTimeout(timer);
  timer = undefined;
  const state = snapshot();
  if (!log) log = new UndoLog(state);
  else if (!log.record(state)) return session.settled(state);
  session.settled(state);
  store.emit("workflow");
}

function captureSoon(): void {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => (typing() || editor().pointer.isDown ? captureSoon() : capture()), SETTLE_MS);
}

function restore(state: string | undefined): void {
  if (state === undefined || !log) return;
  const canvas = editor();
  const selected = Object.keys(canvas.selected_nodes).map(Number);
  const within = currentWay().map(({ id }) => id);
  show(parse(state));
  const way = wayOf(within);
  if (way && way.length > 0) goInto(way);
  const nodes = selected.map((id) => canvas.graph?.getNodeById(id)).filter((node) => node != null);
  if (nodes.length > 0) canvas.selectItems(nodes);
  session.settled(state);
  store.emit("jobs");
  store.emit("workflow");
}

export function undo(): void {
  capture();
  restore(log?.undo());
}

export function redo(): void {
  capture();
  restore(log?.redo());
}

export const canUndo = (): boolean => log?.canUndo ?? false;
export const canRedo = (): boolean => log?.canRedo ?? false;

/** Begins remembering with the workflow that is on the canvas. */
export function startUndo(): void {
  capture();
  store.on("graph", captureSoon);
  window.addEventListener("pointerup", captureSoon);
  window.addEventListener("keyup", captureSoon);
}

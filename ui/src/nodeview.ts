/** How the state of a run shows on a node: border, badge, progress bar, messages. */

import { LiteGraph, type LGraphCanvas, type LGraphNode } from "@comfyorg/litegraph";
import { store } from "./app";
import type { NodeState, Phase } from "./jobs";
import { isTerminal } from "./jobs";
import { pathId } from "./subgraphs";
import { canvasFont, palette } from "./theme";
import { wrapText } from "./widgets/text";

const LABEL: Record<Phase, string> = {
  queued: "queued",
  running: "running",
  cached: "cached",
  done: "done",
  failed: "failed",
};

function stateOf(node: LGraphNode): NodeState | undefined {
  return store.paintedJob()?.nodes.get(pathId(node));
}

function problemsOf(node: LGraphNode): string[] {
  const id = pathId(node);
  return store.problems
    .filter(({ nodeId }) => nodeId === id || nodeId?.startsWith(`${id}:`))
    .map(({ input, text }) => (input && !text.includes(input) ? `${input}: ${text}` : text));
}

/** What is wrong with a node, from validation or from its run. */
export function messagesOf(node: LGraphNode): string[] {
  const error = stateOf(node)?.error;
  return error ? [error, ...problemsOf(node)] : problemsOf(node);
}

/** The state of a node for all to show; a node with problems has failed before it ran. */
export function phaseOf(node: LGraphNode): Phase | undefined {
  return problemsOf(node).length > 0 ? "failed" : stateOf(node)?.phase;
}

interface Stroke {
  color: string;
  lineWidth: number;
  padding: number;
}

export function stateStroke(node: LGraphNode): Stroke | undefined {
  const phase = phaseOf(node);
  if (!phase) return undefined;
  const lineWidth = phase === "running" || phase === "failed" ? 3 : 1.5;
  return { color: palette[phase], lineWidth, padding: phase === "queued" ? 1 : 2 };
}

function badgeText(node: LGraphNode, phase: Phase): string {
  const state = stateOf(node);
  if (phase === "running" && state?.progress) {
    return `${state.progress.value}/${state.progress.max}`;
  }
  if (phase === "done" && state?.startedAtMs !== undefined && state.finishedAtMs !== undefined) {
    const seconds = (state.finishedAtMs - state.startedAtMs) / 1000;
    if (seconds >= 0.1) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  }
  if (phase === "failed" && problemsOf(node).length > 0) return "invalid";
  return LABEL[phase];
}

/** `reserved`: what stands at the right end of the title. */
export function drawTitleBadge(node: LGraphNode, ctx: CanvasRenderingContext2D, reserved = 0): void {
  const phase = phaseOf(node);
  if (!phase) return;
  const text = badgeText(node, phase);
  ctx.save();
  ctx.font = canvasFont(11, "600");
  const width = ctx.measureText(text).width + 14;
  const height = 17;
  const x = node.renderingSize[0] - width - 8 - reserved;
  const y = -LiteGraph.NODE_TITLE_HEIGHT + (LiteGraph.NODE_TITLE_HEIGHT - height) / 2;
  // A long title ends before the badge.
  ctx.fillStyle = node.renderingColor;
  ctx.fillRect(x - 5, y - 3, width + 8, height + 6);
  ctx.fillStyle = palette[phase];
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, height / 2);
  ctx.fill();
  ctx.fillStyle = palette.onState;
  ctx.textAlign = "left";
  ctx.fillText(text, x + 7, y + 12.5);
  ctx.restore();
}

export function drawTitleProgress(node: LGraphNode, ctx: CanvasRenderingContext2D): void {
  const state = stateOf(node);
  if (state?.phase !== "running" || !state.progress || node.collapsed) return;
  const share = Math.min(1, state.progress.value / Math.max(1, state.progress.max));
  ctx.save();
  ctx.globalAlpha = 1;
  ctx.fillStyle = palette.widget;
  ctx.fillRect(0, 0, node.size[0], 5);
  ctx.fillStyle = palette.running;
  ctx.fillRect(0, 0, node.size[0] * share, 5);
  ctx.restore();
}

const FRAME_MIN = 80;

/** Where the picture of an output node will be, while there is none. */
export function drawEmptyFrame(node: LGraphNode, ctx: CanvasRenderingContext2D): void {
  // Results have their own fields, which are empty now.
  const fields = (node.widgets ?? []).filter(({ name }) => !name.startsWith("$$"));
  const last = fields.at(-1);
  const top = (last ? last.y + (last.computedHeight ?? LiteGraph.NODE_WIDGET_HEIGHT) : 40) + 8;
  const [width, height] = [node.size[0] - 20, node.size[1] - top - 10];
  // Once there are pictures, their own field reaches the bottom.
  if (height < FRAME_MIN || width < FRAME_MIN) return;
  ctx.save();
  ctx.strokeStyle = palette.widgetLine;
  ctx.setLineDash([5, 5]);
  ctx.beginPath();
  ctx.roundRect(10, top, width, height, 6);
  ctx.stroke();
  ctx.fillStyle = palette.dim;
  ctx.textAlign = "center";
  ctx.font = canvasFont(12);
  const what = node.inputs.some(({ type }) => type === "IMAGE") ? "picture" : "result";
  ctx.fillText(`The ${what} appears here`, 10 + width / 2, top + height / 2 + 4);
  ctx.restore();
}

const LINE = 15;

function drawMessages(node: LGraphNode, ctx: CanvasRenderingContext2D, lines: string[]): void {
  const width = Math.max(node.renderingSize[0], 180);
  ctx.font = canvasFont(12);
  const measure = (text: string): number => ctx.measureText(text).width;
  const wrapped = lines.flatMap((line) => wrapText(line, width - 20, measure, 6)).slice(0, 10);
  const [x, y] = [node.pos[0], node.pos[1] + (node.collapsed ? 0 : node.size[1]) + 8];
  const height = wrapped.length * LINE + 12;
  ctx.fillStyle = palette.nodeBody;
  ctx.strokeStyle = palette.failed;
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, 6);
  ctx.fill();
  ctx.stroke();
  ctx.fillStyle = palette.failed;
  ctx.textAlign = "left";
  wrapped.forEach((line, row) => ctx.fillText(line, x + 10, y + 17 + row * LINE));
}

/** Draws messages above all nodes, so that no neighbour hides them. */
export function drawAllMessages(canvas: LGraphCanvas, ctx: CanvasRenderingContext2D): void {
  if (canvas.low_quality) return;
  for (const node of canvas.graph?.nodes ?? []) {
    const lines = messagesOf(node);
    if (lines.length > 0) drawMessages(node, ctx, lines);
  }
}

/** Whether something on the canvas moves by itself. */
export function isBusy(): boolean {
  const job = store.paintedJob();
  return job !== undefined && !isTerminal(job.status);
}

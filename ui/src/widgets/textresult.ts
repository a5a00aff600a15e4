/** Text that a node answered with, shown in the node's body. */

import { BaseWidget, type CanvasPointer, type LGraphCanvas, type LGraphNode } from "@comfyorg/litegraph";
import { canvasFont, palette } from "../theme";
import { openText } from "../ui/textview";
import type { Growth } from "./growth";
import { dragOrClick } from "./handle";
import { wrapText } from "./text";

const LINE_HEIGHT = 16;
const PADDING = 8;
const MIN_LINES = 2;
const MAX_FIRST_LINES = 14;
/** More is not drawn on a node; the dialog shows all. */
const MAX_DRAWN = 4_000;

export class TextResult extends BaseWidget {
  private text = "";
  private wrapped: { key: string; lines: string[] } | undefined;

  constructor(node: LGraphNode, private growth: Growth) {
    super({ name: "$$text", type: "custom", value: "", options: {}, y: 0 } as never, node);
    this.serialize = false;
    this.computeLayoutSize = () =>
      this.text === ""
        ? { minHeight: 0, maxHeight: 0, minWidth: 0 }
        : { minHeight: this.wantedLines * LINE_HEIGHT + 2 * PADDING, minWidth: 80 };
  }

  /** Enough for a short text at first; later the user's size rules. */
  private wantedLines = MIN_LINES;

  get shown(): string {
    return this.text;
  }

  show(texts: readonly string[]): void {
    const text = texts.join("\n");
    if (text === this.text) return;
    const first = this.text === "";
    this.text = text;
    if (text === "") {
      this.growth.shrink(this);
    } else {
      const columns = Math.max(10, Math.floor((this.node.size[0] - 40) / 6.5));
      const lines = text.slice(0, MAX_DRAWN).split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
      if (first) this.wantedLines = Math.min(Math.max(lines, MIN_LINES), MAX_FIRST_LINES);
      this.growth.grow(this);
      this.wantedLines = MIN_LINES;
    }
    this.node.setDirtyCanvas(true, true);
  }

  drawWidget(ctx: CanvasRenderingContext2D, { width, showText = true }: { width: number; showText?: boolean }): void {
    if (this.text === "") return;
    const x = BaseWidget.margin;
    const [inner, height] = [width - 2 * x, (this.computedHeight ?? 2 * LINE_HEIGHT) - 6];
    ctx.beginPath();
    ctx.roundRect(x, this.y, inner, height, 6);
    ctx.strokeStyle = palette.widgetLine;
    ctx.stroke();
    if (!showText) return;
    const rows = Math.max(1, Math.floor((height - PADDING) / LINE_HEIGHT));
    ctx.font = canvasFont(12);
    const key = `${inner}|${rows}|${this.text}`;
    if (this.wrapped?.key !== key) {
      const measure = (part: string): number => ctx.measureText(part).width;
      const lines = wrapText(this.text.slice(0, MAX_DRAWN), inner - 2 * PADDING, measure, rows + 1);
      // A text that goes on says so.
      if (lines.length > rows) lines.splice(rows - 1, 2, `${lines[rows - 1]?.slice(0, -1) ?? ""}…`);
      this.wrapped = { key, lines };
    }
    ctx.textAlign = "left";
    ctx.fillStyle = palette.text;
    this.wrapped.lines.forEach((line, row) => ctx.fillText(line, x + PADDING, this.y + PADDING + 10 + row * LINE_HEIGHT));
  }

  override onPointerDown = (pointer: CanvasPointer, node: LGraphNode, canvas: LGraphCanvas): boolean => {
    if (this.text === "") return false;
    dragOrClick(pointer, node, canvas, () => openText(node.title, this.text));
    return true;
  };

  onClick(): void {
    // A click comes by the press above.
  }
}

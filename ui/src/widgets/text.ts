/** Text fields drawn on the node; a real text box opens over them while typing. */

import { BaseWidget, type LGraphNode } from "@comfyorg/litegraph";
import { openEditor } from "../editor";
import { canvasFont, palette } from "../theme";
import { assign } from "./assign";

const MIN_HEIGHT = 64;
const LINE_HEIGHT = 15;
const PADDING = 7;

/** Breaks text at spaces, or inside a word longer than a line. */
export function wrapText(
  text: string,
  width: number,
  measure: (text: string) => number,
  maxLines: number,
): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(/(?<=\s)/)) {
      if (line !== "" && measure(line + word.trimEnd()) > width) {
        lines.push(line.trimEnd());
        line = "";
      }
      line += word;
      while (measure(line.trimEnd()) > width && line.length > 1) {
        let fits = line.length - 1;
        while (fits > 1 && measure(line.slice(0, fits)) > width) fits -= 1;
        lines.push(line.slice(0, fits));
        line = line.slice(fits);
        if (lines.length >= maxLines) return lines.slice(0, maxLines);
      }
    }
    lines.push(line.trimEnd());
    if (lines.length >= maxLines) return lines.slice(0, maxLines);
  }
  return lines;
}

type Events = Parameters<BaseWidget["onClick"]>[0];

export class TextField extends BaseWidget {
  readonly multiline: boolean;
  private wrapped: { key: string; lines: string[] } | undefined;

  constructor(name: string, value: string, multiline: boolean, node: LGraphNode) {
    super({ name, type: "custom", value, options: { multiline }, y: 0 } as never, node);
    this.multiline = multiline;
    if (multiline) this.computeLayoutSize = () => ({ minHeight: MIN_HEIGHT, minWidth: 120 });
  }

  override get _displayValue(): string {
    return this.computedDisabled ? "" : String(this.value ?? "");
  }

  drawWidget(ctx: CanvasRenderingContext2D, options: { width: number; showText?: boolean }): void {
    if (!this.multiline) {
      this.drawWidgetShape(ctx, options);
      if (options.showText) {
        ctx.font = canvasFont(12);
        this.drawTruncatingText({ ctx, width: options.width, leftPadding: 0, rightPadding: 0 });
      }
      return;
    }
    const x = BaseWidget.margin;
    const width = options.width - 2 * x;
    const height = (this.computedHeight ?? MIN_HEIGHT) - 6;
    ctx.beginPath();
    ctx.roundRect(x, this.y, width, height, 6);
    ctx.fillStyle = palette.widget;
    ctx.fill();
    ctx.strokeStyle = palette.widgetLine;
    ctx.stroke();
    if (options.showText) this.drawLines(ctx, x, width, height);
  }

  private drawLines(ctx: CanvasRenderingContext2D, x: number, width: number, height: number): void {
    const text = this._displayValue;
    const rows = Math.max(1, Math.floor((height - PADDING) / LINE_HEIGHT));
    ctx.font = canvasFont(12);
    const key = `${width}|${rows}|${text}`;
    if (this.wrapped?.key !== key) {
      const measure = (part: string): number => ctx.measureText(part).width;
      this.wrapped = { key, lines: wrapText(text, width - 2 * PADDING, measure, rows) };
    }
    ctx.textAlign = "left";
    ctx.fillStyle = text === "" ? palette.dim : palette.text;
    const lines = text === "" ? [this.displayName] : this.wrapped.lines;
    lines.forEach((line, row) => {
      ctx.fillText(line, x + PADDING, this.y + PADDING + 10 + row * LINE_HEIGHT);
    });
  }

  onClick({ node, canvas }: Events): void {
    openEditor({
      canvas,
      node,
      widget: this,
      text: String(this.value ?? ""),
      multiline: this.multiline,
      live: true,
      commit: (text) => assign(node, this, text),
    });
  }
}

/** The pictures a node made, or the one it is making, shown in the node's body. */

import { BaseWidget, type CanvasPointer, type LGraphCanvas, type LGraphNode } from "@comfyorg/litegraph";
import { palette } from "../theme";
import type { Growth } from "./growth";
import { dragOrClick } from "./handle";

const MARGIN = 10;
const MIN_HEIGHT = 110;
const MAX_FIRST_HEIGHT = 300;

export class PictureArea extends BaseWidget {
  private urls: string[] = [];
  private images: HTMLImageElement[] = [];
  private wanted = MIN_HEIGHT;
  onOpen: ((index: number) => void) | undefined;
  onDoubleClick: (() => void) | undefined;

  constructor(node: LGraphNode, private growth: Growth) {
    super({ name: "$$picture", type: "custom", value: "", options: {}, y: 0 } as never, node);
    this.serialize = false;
    this.computeLayoutSize = () =>
      this.images.length > 0
        ? { minHeight: this.wanted, minWidth: 80 }
        : { minHeight: 0, maxHeight: 0, minWidth: 0 };
  }

  get shown(): readonly string[] {
    return this.urls;
  }

  /** Shows these pictures; each replaces the old one only once it is loaded, so nothing flickers. */
  show(urls: string[]): void {
    if (urls.join() === this.urls.join()) return;
    this.urls = urls;
    if (urls.length === 0) {
      this.place([]);
      return;
    }
    const loading = urls.map(async (url) => {
      const image = new Image();
      image.src = url;
      await image.decode();
      return image;
    });
    void Promise.allSettled(loading).then((results) => {
      if (this.urls !== urls) return;
      this.place(results.flatMap((r) => (r.status === "fulfilled" ? [r.value] : [])));
    });
  }

  private place(images: HTMLImageElement[]): void {
    const { node } = this;
    const first = images[0];
    if (first && this.images.length === 0) {
      const width = node.size[0] - 2 * MARGIN;
      const natural = (width * first.naturalHeight) / Math.max(1, first.naturalWidth);
      this.wanted = Math.min(Math.max(natural, MIN_HEIGHT), MAX_FIRST_HEIGHT);
    }
    this.images = images;
    if (first) {
      this.growth.grow(this);
      this.wanted = MIN_HEIGHT;
    } else this.growth.shrink(this);
    node.setDirtyCanvas(true, true);
  }

  private grid(width: number): { columns: number; cellWidth: number; cellHeight: number } {
    const columns = Math.ceil(Math.sqrt(this.images.length));
    const rows = Math.ceil(this.images.length / Math.max(1, columns));
    const height = (this.computedHeight ?? MIN_HEIGHT) - MARGIN;
    return {
      columns,
      cellWidth: (width - 2 * MARGIN) / Math.max(1, columns),
      cellHeight: height / Math.max(1, rows),
    };
  }

  drawWidget(ctx: CanvasRenderingContext2D, { width }: { width: number }): void {
    const { columns, cellWidth, cellHeight } = this.grid(width);
    this.images.forEach((image, index) => {
      const x = MARGIN + (index % columns) * cellWidth;
      const y = this.y + Math.floor(index / columns) * cellHeight;
      const gap = this.images.length > 1 ? 2 : 0;
      const scale = Math.min(
        (cellWidth - gap) / image.naturalWidth,
        (cellHeight - gap) / image.naturalHeight,
      );
      const w = image.naturalWidth * scale;
      const h = image.naturalHeight * scale;
      const left = x + (cellWidth - w) / 2;
      const top = y + (cellHeight - h) / 2;
      ctx.drawImage(image, left, top, w, h);
      ctx.strokeStyle = palette.widgetLine;
      ctx.lineWidth = 1;
      ctx.strokeRect(left, top, w, h);
    });
  }

  override onPointerDown = (pointer: CanvasPointer, node: LGraphNode, canvas: LGraphCanvas): boolean => {
    if (this.images.length === 0) return false;
    pointer.onDoubleClick = () => this.onDoubleClick?.();
    dragOrClick(pointer, node, canvas, (e) => this.open(e, node));
    return true;
  };

  onClick(): void {
    // A click comes by the press above.
  }

  private open(e: { canvasX: number; canvasY: number }, node: LGraphNode): void {
    const { columns, cellWidth, cellHeight } = this.grid(this.width || node.size[0]);
    const column = Math.floor((e.canvasX - node.pos[0] - MARGIN) / cellWidth);
    const row = Math.floor((e.canvasY - node.pos[1] - this.y) / cellHeight);
    const index = row * columns + Math.min(Math.max(column, 0), columns - 1);
    if (index >= 0 && index < this.images.length) this.onOpen?.(index);
  }
}

/** The surface of the mask editor: a picture, the paint over it, and the brush. */

import { h } from "../dom";

const PAINT = "#ff4d6d";
const SHOWN_ALPHA = "0.62";
const UNDO_KEPT = 20;

function surface(width: number, height: number): [HTMLCanvasElement, CanvasRenderingContext2D] {
  const canvas = h("canvas", { width, height });
  const ctx = canvas.getContext("2d", { willReadFrequently: true });
  if (!ctx) throw new Error("the browser has no 2D canvas");
  return [canvas, ctx];
}

export class MaskBoard {
  readonly element: HTMLElement;
  brush: number;
  softness = 0;
  erasing = false;
  onBrush: (size: number) => void = () => undefined;
  private readonly paint: HTMLCanvasElement;
  private readonly ctx: CanvasRenderingContext2D;
  private readonly under: HTMLCanvasElement;
  private readonly cursor = h("div", { class: "cursor", hidden: true });
  private readonly watch = new ResizeObserver(() => this.fit());
  private past: ImageData[] = [];
  private scale = 1;
  private last: [number, number] | undefined;

  constructor(picture: HTMLImageElement) {
    const { naturalWidth: width, naturalHeight: height } = picture;
    const [under, ctx] = surface(width, height);
    this.under = under;
    [this.paint, this.ctx] = surface(width, height);
    this.paint.setAttribute("aria-label", "Mask");
    this.paint.style.opacity = SHOWN_ALPHA;
    this.brush = Math.max(2, Math.min(120, Math.round(Math.min(width, height) / 12)));
    ctx.drawImage(picture, 0, 0);
    this.takeOver(ctx);
    this.element = h("div", { class: "board" }, under, this.paint, this.cursor);
    this.bind();
  }

  /** Begins with the mask that the picture carries, and shows the picture itself without it. */
  private takeOver(ctx: CanvasRenderingContext2D): void {
    const { width, height } = this.paint;
    const pixels = ctx.getImageData(0, 0, width, height);
    const mask = this.ctx.createImageData(width, height);
    const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => parseInt(PAINT.slice(at, at + 2), 16));
    for (let at = 0; at < pixels.data.length; at += 4) {
      mask.data.set([r, g, b, 255 - (pixels.data[at + 3] ?? 255)], at);
      pixels.data[at + 3] = 255;
    }
    this.ctx.putImageData(mask, 0, 0);
    ctx.putImageData(pixels, 0, 0);
  }

  start(): void {
    this.watch.observe(this.element);
    this.fit();
  }

  stop(): void {
    this.watch.disconnect();
  }

  private fit(): void {
    const { clientWidth, clientHeight } = this.element;
    const { width, height } = this.paint;
    this.scale = Math.min((clientWidth - 40) / width, (clientHeight - 40) / height);
    for (const canvas of [this.under, this.paint]) {
      canvas.style.width = `${width * this.scale}px`;
      canvas.style.height = `${height * this.scale}px`;
      canvas.style.left = `${(clientWidth - width * this.scale) / 2}px`;
      canvas.style.top = `${(clientHeight - height * this.scale) / 2}px`;
    }
  }

  setBrush(size: number): void {
    this.brush = Math.min(400, Math.max(1, size));
    this.onBrush(this.brush);
  }

  private bind(): void {
    const { element } = this;
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      this.remember();
      this.last = undefined;
      this.stroke(event);
    });
    element.addEventListener("pointermove", (event) => {
      this.showCursor(event);
      if (event.buttons !== 0) for (const part of event.getCoalescedEvents?.() ?? [event]) this.stroke(part, event.buttons);
    });
    element.addEventListener("pointerleave", () => (this.cursor.hidden = true));
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.setBrush(this.brush * Math.exp(-event.deltaY / 500));
      this.showCursor(event);
    }, { passive: false });
  }

  private at({ clientX, clientY }: MouseEvent): [number, number] {
    const box = this.paint.getBoundingClientRect();
    return [(clientX - box.x) / this.scale, (clientY - box.y) / this.scale];
  }

  private showCursor({ clientX, clientY }: MouseEvent): void {
    const box = this.element.getBoundingClientRect();
    const size = this.brush * this.scale;
    this.cursor.hidden = false;
    this.cursor.style.cssText = `width:${size}px;height:${size}px;left:${clientX - box.x - size / 2}px;top:${clientY - box.y - size / 2}px`;
  }

  private stroke(event: PointerEvent, buttons = event.buttons): void {
    const [x, y] = this.at(event);
    const [fromX, fromY] = this.last ?? [x, y];
    const distance = Math.hypot(x - fromX, y - fromY);
    const steps = Math.max(1, Math.ceil(distance / Math.max(0.5, this.brush / 8)));
    // The right button and the other end of a pen erase.
    const erasing = this.erasing || (buttons & 2) !== 0 || (buttons & 32) !== 0;
    for (let step = 1; step <= steps; step += 1) {
      this.dab(fromX + ((x - fromX) * step) / steps, fromY + ((y - fromY) * step) / steps, erasing);
    }
    this.last = [x, y];
  }

  private dab(x: number, y: number, erasing: boolean): void {
    const { ctx } = this;
    const radius = this.brush / 2;
    ctx.globalCompositeOperation = erasing ? "destination-out" : "source-over";
    ctx.fillStyle = PAINT;
    if (this.softness > 0) {
      const fade = ctx.createRadialGradient(x, y, radius * (1 - this.softness), x, y, radius);
      fade.addColorStop(0, PAINT);
      fade.addColorStop(1, `${PAINT}00`);
      ctx.fillStyle = fade;
    }
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.fill();
  }

  private remember(): void {
    this.past.push(this.ctx.getImageData(0, 0, this.paint.width, this.paint.height));
    if (this.past.length > UNDO_KEPT) this.past.shift();
  }

  undo(): void {
    const before = this.past.pop();
    if (before) this.ctx.putImageData(before, 0, 0);
  }

  clear(): void {
    this.remember();
    this.ctx.clearRect(0, 0, this.paint.width, this.paint.height);
  }

  invert(): void {
    this.remember();
    this.ctx.globalCompositeOperation = "source-out";
    this.ctx.fillStyle = PAINT;
    this.ctx.fillRect(0, 0, this.paint.width, this.paint.height);
  }

  /** A PNG whose alpha is what loaders expect: clear where the mask is. */
  async alpha(): Promise<Blob> {
    const { width, height } = this.paint;
    const [canvas, ctx] = surface(width, height);
    const pixels = this.ctx.getImageData(0, 0, width, height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set([0, 0, 0, 255 - (pixels.data[at + 3] ?? 0)], at);
    ctx.putImageData(pixels, 0, 0);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the mask could not be encoded"))), "image/png");
    });
  }
}

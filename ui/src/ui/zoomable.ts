/** A picture that is zoomed with the wheel or a pinch and moved by dragging. */

const MAX = 40;

export class Zoomable {
  private scale = 1;
  private x = 0;
  private y = 0;
  private pointers = new Map<number, PointerEvent>();

  constructor(
    private readonly stage: HTMLElement,
    private readonly image: HTMLImageElement,
  ) {
    image.draggable = false;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if ((event.target as HTMLElement).closest("button")) return;
      stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    stage.addEventListener("pointermove", (event) => this.moved(event));
    for (const end of ["pointerup", "pointercancel"] as const) {
      stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    stage.addEventListener("dblclick", () => (this.scale === 1 ? this.actualSize() : this.reset()));
  }

  reset(): void {
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.put();
  }

  /** One pixel of the picture on one of the screen, or twice the size where it was that already. */
  actualSize(): void {
    const shown = this.image.clientWidth || 1;
    const exact = this.image.naturalWidth / shown / (window.devicePixelRatio || 1);
    this.reset();
    this.zoom(Math.abs(exact - 1) < 0.01 ? 2 : exact);
  }

  /** Zooms about a point of the window, or about the middle. */
  zoom(factor: number, clientX?: number, clientY?: number): void {
    const box = this.image.getBoundingClientRect();
    const stage = this.stage.getBoundingClientRect();
    const [px, py] = [clientX ?? stage.x + stage.width / 2, clientY ?? stage.y + stage.height / 2];
    const scale = Math.min(MAX, Math.max(0.1, this.scale * factor));
    const grown = scale / this.scale;
    this.x += (px - box.x) * (1 - grown);
    this.y += (py - box.y) * (1 - grown);
    this.scale = scale;
    this.put();
  }

  private moved(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (other) {
      const apart = (one: PointerEvent): number => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      this.zoom(apart(event) / Math.max(1, apart(before)), other.clientX, other.clientY);
      return;
    }
    this.x += event.clientX - before.clientX;
    this.y += event.clientY - before.clientY;
    this.put();
  }

  private put(): void {
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    const shown = (this.image.clientWidth * this.scale) / Math.max(1, this.image.naturalWidth);
    this.image.classList.toggle("pixels", shown > 3);
  }
}

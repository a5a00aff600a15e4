/** Number fields: arrows, drag to change, click to type. */

import { NumberWidget, type LGraphNode } from "@comfyorg/litegraph";
import { isBigLiteral } from "../bigjson";
import { openEditor } from "../editor";
import { assign } from "./assign";
import {
  readNumber,
  showNumber,
  stepFloat,
  stepInt,
  type FloatSpec,
  type IntSpec,
  type Numeric,
} from "./values";

type Events = Parameters<NumberWidget["onClick"]>[0];

/** Width of the arrow zones at both ends, in graph units. */
const ARROW_ZONE = 40;

export class NumberField extends NumberWidget {
  private readonly spec: IntSpec | FloatSpec;

  constructor(name: string, spec: IntSpec | FloatSpec, value: Numeric, node: LGraphNode) {
    // Limits past 2^53 only matter to typed values, which are checked exactly.
    const min = typeof spec.min === "number" ? spec.min : undefined;
    const max = typeof spec.max === "number" ? spec.max : undefined;
    super({ name, type: "number", value: value as number, options: { min, max }, y: 0 }, node);
    this.spec = spec;
  }

  override get _displayValue(): string {
    return this.computedDisabled ? "" : showNumber(this.spec, this.value);
  }

  override canIncrement(): boolean {
    return isBigLiteral(this.value) || super.canIncrement();
  }

  override canDecrement(): boolean {
    return isBigLiteral(this.value) || super.canDecrement();
  }

  private shift(node: LGraphNode, steps: number): void {
    const value = this.value as Numeric;
    if (this.spec.kind === "int") assign(node, this, stepInt(this.spec, value, steps));
    else if (typeof value === "number") assign(node, this, stepFloat(this.spec, value, steps));
  }

  private arrowAt({ e, node }: Events): number {
    const x = e.canvasX - node.pos[0];
    if (x < ARROW_ZONE) return -1;
    return x > (this.width || node.size[0]) - ARROW_ZONE ? 1 : 0;
  }

  override onClick(events: Events): void {
    const arrow = this.arrowAt(events);
    if (arrow !== 0) return this.shift(events.node, arrow);
    const { node } = events;
    openEditor({
      canvas: events.canvas,
      node,
      widget: this,
      text: showNumber(this.spec, this.value),
      commit: (text) => {
        const value = readNumber(this.spec, text);
        if (value !== undefined) assign(node, this, value);
      },
    });
  }

  override onDrag(events: Events): void {
    const x = events.e.canvasX - events.node.pos[0];
    const inside = x > -3 && x < (this.width || events.node.size[0]) + 3;
    if (this.arrowAt(events) !== 0 && inside) return;
    const steps = Math.round(events.e.deltaX ?? 0);
    if (steps !== 0) this.shift(events.node, steps);
  }
}

/** Drop-down fields; a value no longer on offer stays visible, in the warning colour. */

import { ComboWidget, type LGraphNode } from "@comfyorg/litegraph";
import { openChoices } from "../editor";
import { palette } from "../theme";
import { assign } from "./assign";

type Events = Parameters<ComboWidget["onClick"]>[0];
const ARROW_ZONE = 40;

export class ComboField extends ComboWidget {
  /** Whether the node itself decides about values outside the list. */
  open = false;
  /** What a choice looks like, where that is known. */
  cover: ((value: string) => string | undefined) | undefined;

  constructor(name: string, values: string[], value: string, node: LGraphNode) {
    super({ name, type: "combo", value, options: { values }, y: 0 }, node);
  }

  get choices(): string[] {
    return this.options.values as string[];
  }

  set choices(values: string[]) {
    this.options.values = values;
  }

  get known(): boolean {
    return this.choices.includes(String(this.value));
  }

  override get text_color(): string {
    return this.known || this.open ? palette.text : palette.failed;
  }

  override get _displayValue(): string {
    if (this.computedDisabled) return "";
    if (this.value === "" && this.choices.length === 0) return "nothing to choose from";
    return String(this.value ?? "");
  }

  override onClick({ e, node, canvas }: Events): void {
    const x = e.canvasX - node.pos[0];
    const right = (this.width || node.size[0]) - ARROW_ZONE;
    if (x < ARROW_ZONE || x > right) {
      const index = this.choices.indexOf(String(this.value)) + (x < ARROW_ZONE ? -1 : 1);
      const value = this.choices[Math.min(Math.max(index, 0), this.choices.length - 1)];
      if (value !== undefined) assign(node, this, value);
      return;
    }
    openChoices({
      canvas,
      node,
      widget: this,
      choices: this.choices,
      current: String(this.value ?? ""),
      cover: this.cover,
      commit: (value) => assign(node, this, value),
    });
  }
}

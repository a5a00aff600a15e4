/** Choices that bring inputs of their own: which inputs a node has just now. Pure, so it is tested without a canvas. */

import type { DynamicOption, InputSpec, WidgetSpec } from "../api";

/** The option of a choice with that key; none for another input. */
function option(widget: WidgetSpec | undefined, key: unknown): DynamicOption | undefined {
  return widget?.kind === "dynamic_combo" ? widget.options.find((one) => one.key === key) : undefined;
}

export function isChoice(input: InputSpec): boolean {
  return input.widget?.kind === "dynamic_combo";
}

/**
 * The inputs of a node when its choices stand as `chosen` says. What a choice brings follows it, named
 * `choice.input` as in workflows.
 */
export function liveInputs(inputs: readonly InputSpec[], chosen: (choice: InputSpec) => unknown): InputSpec[] {
  return inputs.flatMap((input) => {
    const nested = option(input.widget, isChoice(input) ? chosen(input) : undefined)?.inputs ?? [];
    const named = nested.map((inner) => ({ ...inner, name: `${input.name}.${inner.name}` }));
    return [input, ...liveInputs(named, chosen)];
  });
}

/** Whether an input came with a choice. */
export function comesWith(choice: string, name: string): boolean {
  return name.startsWith(`${choice}.`);
}

/** What a field is called on its node: without the choice that brings it. */
export function shortName(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

/** Whether a value that a field had may stay when another field of the same name takes its place. */
export function mayStay(widget: WidgetSpec, value: unknown): boolean {
  switch (widget.kind) {
    case "combo":
      return widget.options.includes(String(value));
    case "dynamic_combo":
      return widget.options.some(({ key }) => key === value);
    case "bool":
      return typeof value === "boolean";
    case "text":
      return typeof value === "string";
    case "int":
      return typeof value === "number" && Number.isInteger(value) && inRange(widget, value);
    case "float":
      return typeof value === "number" && inRange(widget, value);
  }
}

function inRange({ min, max }: { min?: unknown; max?: unknown }, value: number): boolean {
  return !(typeof min === "number" && value < min) && !(typeof max === "number" && value > max);
}

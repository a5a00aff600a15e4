/** Arithmetic and text of widget values; pure, so it is tested without a canvas. */

import { bigDigits, isBigLiteral, parseInteger, type BigLiteral } from "../bigjson";
import type { WidgetSpec } from "../api";

export type IntSpec = Extract<WidgetSpec, { kind: "int" }>;
export type FloatSpec = Extract<WidgetSpec, { kind: "float" }>;
export type Numeric = number | BigLiteral;

/** The modes of the combo beneath a seed, as stored in workflow files. */
export const CONTROL_MODES = ["fixed", "increment", "decrement", "randomize"] as const;
export type ControlMode = (typeof CONTROL_MODES)[number];

/** Seeds made here stay exact in a double; bigger ones are only kept, never made. */
const LARGEST_SEED = Number.MAX_SAFE_INTEGER;

function asBigInt(value: Numeric): bigint {
  return isBigLiteral(value) ? BigInt(bigDigits(value)) : BigInt(Math.trunc(value));
}

function fromBigInt(value: bigint): Numeric {
  return parseInteger(value.toString()) ?? 0;
}

/** Puts an integer within the limits of its input, exactly even past 2^53. */
export function clampInt(spec: IntSpec, value: Numeric): Numeric {
  let exact = asBigInt(value);
  if (spec.min !== undefined && exact < asBigInt(spec.min)) exact = asBigInt(spec.min);
  if (spec.max !== undefined && exact > asBigInt(spec.max)) exact = asBigInt(spec.max);
  return fromBigInt(exact);
}

/** Moves an integer by some steps. */
export function stepInt(spec: IntSpec, value: Numeric, steps: number): Numeric {
  const step = BigInt(Math.max(1, Math.trunc(spec.step ?? 1)));
  return clampInt(spec, fromBigInt(asBigInt(value) + BigInt(Math.trunc(steps)) * step));
}

/** Digits after the point that a step or rounding unit needs. */
export function decimals(spec: FloatSpec): number {
  const unit = spec.round ?? spec.step ?? 0.01;
  if (!(unit > 0)) return 3;
  const text = unit.toString();
  const exponent = /e-(\d+)$/.exec(text);
  if (exponent) return Math.min(10, Number(exponent[1]));
  return Math.min(10, text.split(".")[1]?.length ?? 1);
}

export function clampFloat(spec: FloatSpec, value: number): number {
  let result = value;
  if (spec.min !== undefined) result = Math.max(spec.min, result);
  if (spec.max !== undefined) result = Math.min(spec.max, result);
  return Number(result.toFixed(Math.max(decimals(spec), 1)));
}

export function stepFloat(spec: FloatSpec, value: number, steps: number): number {
  return clampFloat(spec, value + steps * (spec.step ?? 0.1));
}

/** What a user typed, or `undefined` when it is no number of that kind. */
export function readNumber(spec: IntSpec | FloatSpec, text: string): Numeric | undefined {
  if (spec.kind === "int") {
    const value = parseInteger(text);
    return value === undefined ? undefined : clampInt(spec, value);
  }
  const value = Number(text.trim().replace(",", "."));
  return text.trim() === "" || !Number.isFinite(value) ? undefined : clampFloat(spec, value);
}

export function showNumber(spec: IntSpec | FloatSpec, value: unknown): string {
  if (isBigLiteral(value)) return bigDigits(value);
  if (typeof value !== "number") return String(value ?? "");
  if (spec.kind === "int") return String(value);
  const shown = value.toFixed(decimals(spec));
  return Number(shown) === value ? shown : String(value);
}

/** The seed of the next run. */
export function nextSeed(mode: string, spec: IntSpec, value: Numeric, random: () => number): Numeric {
  switch (mode) {
    case "increment":
      return stepInt({ ...spec, step: 1 }, value, 1);
    case "decrement":
      return stepInt({ ...spec, step: 1 }, value, -1);
    case "randomize": {
      const top = typeof spec.max === "number" ? Math.min(spec.max, LARGEST_SEED) : LARGEST_SEED;
      const low = typeof spec.min === "number" ? Math.max(spec.min, 0) : 0;
      return low + Math.floor(random() * (top - low));
    }
    default:
      return value;
  }
}

/** The value a widget starts with. */
export function defaultValue(spec: WidgetSpec): unknown {
  switch (spec.kind) {
    case "int":
      return spec.default ?? spec.min ?? 0;
    case "float":
      return spec.default ?? spec.min ?? 0;
    case "text":
      return spec.default ?? "";
    case "bool":
      return spec.default ?? false;
    case "combo":
      return spec.default ?? spec.options[0] ?? "";
    case "dynamic_combo":
      return spec.options[0]?.key ?? "";
  }
}

/**
 * Lays stored values over widgets in order.
 *
 * Files written by hand or by other tools may leave out the mode stored after a
 * seed; the value found there then belongs to the next widget.
 */
export function alignValues(names: readonly string[], values: readonly unknown[]): Map<string, unknown> {
  const aligned = new Map<string, unknown>();
  let next = 0;
  for (const name of names) {
    if (next >= values.length) break;
    const value = values[next];
    if (name === CONTROL_NAME && !CONTROL_MODES.includes(value as ControlMode)) continue;
    aligned.set(name, value);
    next += 1;
  }
  return aligned;
}

export const CONTROL_NAME = "control_after_generate";

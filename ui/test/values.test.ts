import { describe, expect, test } from "vitest";
import { bigDigits, isBigLiteral, parseInteger } from "../src/bigjson";
import {
  alignValues, clampInt, decimals, defaultValue, nextSeed, readNumber, showNumber, stepFloat, stepInt,
  type FloatSpec, type IntSpec, type Numeric,
} from "../src/widgets/values";

const MAX = parseInteger("18446744073709551615") as Numeric;
const SEED: IntSpec = { kind: "int", default: 0, min: 0, max: MAX, control_after_generate: true };
const CFG: FloatSpec = { kind: "float", default: 8, min: 0, max: 100, step: 0.1, round: 0.01 };
const digits = (value: Numeric): string => (isBigLiteral(value) ? bigDigits(value) : String(value));

describe("integers", () => {
  test.each([
    ["18446744073709551616", "18446744073709551615"],
    ["-5", "0"],
    ["9007199254740993", "9007199254740993"],
    ["42", "42"],
  ])("%s is clamped to %s", (typed, wanted) => {
    expect(digits(readNumber(SEED, typed) as Numeric)).toBe(wanted);
  });

  test("steps are exact on both sides of 2^53", () => {
    expect(digits(stepInt(SEED, 9007199254740991, 1))).toBe("9007199254740992");
    expect(digits(stepInt(SEED, parseInteger("9007199254740993") as Numeric, -1))).toBe("9007199254740992");
    expect(digits(stepInt(SEED, MAX, 1))).toBe("18446744073709551615");
    expect(stepInt({ kind: "int", min: 16, max: 16384, step: 8 }, 512, -2)).toBe(496);
    expect(clampInt({ kind: "int", min: 1 }, 0)).toBe(1);
  });
});

describe("floats", () => {
  test("steps do not collect rounding errors", () => {
    let value = 0;
    for (let i = 0; i < 3; i += 1) value = stepFloat(CFG, value, 1);
    expect(value).toBe(0.3);
  });
  test.each<[FloatSpec, number]>([
    [CFG, 2],
    [{ kind: "float", step: 0.001 }, 3],
    [{ kind: "float", step: 1e-7 }, 7],
    [{ kind: "float", step: 1 }, 1],
  ])("%o shows %i decimals", (spec, wanted) => {
    expect(decimals(spec)).toBe(wanted);
  });
  test("text is read with point or comma and refused otherwise", () => {
    expect(readNumber(CFG, "7,5")).toBe(7.5);
    expect(readNumber(CFG, "900")).toBe(100);
    expect(readNumber(CFG, "seven")).toBeUndefined();
    expect(readNumber(CFG, "")).toBeUndefined();
  });
  test("finer values than the step are shown in full", () => {
    expect(showNumber(CFG, 7)).toBe("7.00");
    expect(showNumber(CFG, 7.125)).toBe("7.125");
  });
});

describe("the seed after a run", () => {
  test.each([
    ["fixed", 5, 5],
    ["increment", 5, 6],
    ["decrement", 0, 0],
  ])("%s takes %i to %i", (mode, from, to) => {
    expect(nextSeed(mode, SEED, from, Math.random)).toBe(to);
  });
  test("random seeds are exact in a double", () => {
    for (const at of [0, 0.5, 0.999999999999]) {
      expect(Number.isSafeInteger(nextSeed("randomize", SEED, 1, () => at))).toBe(true);
    }
  });
});

describe("stored values", () => {
  const names = ["seed", "control_after_generate", "steps"];
  test("a stored mode belongs to the seed", () => {
    expect(Object.fromEntries(alignValues(names, [7, "randomize", 20]))).toEqual({ seed: 7, control_after_generate: "randomize", steps: 20 });
  });
  test("values move up where no mode was stored", () => {
    expect(Object.fromEntries(alignValues(names, [7, 20]))).toEqual({ seed: 7, steps: 20 });
  });
  test("a field starts with its default, else the first choice", () => {
    expect(defaultValue({ kind: "combo", options: ["a", "b"] })).toBe("a");
    expect(defaultValue({ kind: "combo", options: [] })).toBe("");
    expect(defaultValue(SEED)).toBe(0);
  });
});

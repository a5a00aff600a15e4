import { describe, expect, test } from "vitest";
import type { InputSpec } from "../src/api";
import { comesWith, liveInputs, mayStay } from "../src/widgets/dynamic";
import { defaultValue } from "../src/widgets/values";

const field = (name: string, widget: InputSpec["widget"]): InputSpec => ({ name, group: "required", type: "X", widget });
const mode = field("mode", {
  kind: "dynamic_combo",
  options: [{ key: "still", inputs: [] }, { key: "moving", inputs: [field("fps", { kind: "float", default: 6 })] }],
});
const format = field("format", {
  kind: "dynamic_combo",
  options: [
    { key: "png", inputs: [field("depth", { kind: "combo", options: ["8-bit", "16-bit"] })] },
    { key: "avif", inputs: [field("crf", { kind: "int", default: 18 }), mode] },
  ],
});
const inputs = [field("prefix", { kind: "text" }), format, field("last", { kind: "bool" })];
const names = (choices: Record<string, unknown>) => liveInputs(inputs, ({ name }) => choices[name]).map(({ name }) => name);

describe("choices that bring inputs", () => {
  test("bring them right behind themselves", () => {
    expect(names({ format: "png" })).toEqual(["prefix", "format", "format.depth", "last"]);
    expect(names({ format: "avif", "format.mode": "moving" })).toEqual([
      "prefix", "format", "format.crf", "format.mode", "format.mode.fps", "last",
    ]);
  });
  test("bring nothing while they are unknown", () => {
    expect(names({ format: "tiff" })).toEqual(["prefix", "format", "last"]);
    expect(names({})).toEqual(["prefix", "format", "last"]);
  });
  test("start with their first option", () => {
    expect(defaultValue(format.widget!)).toBe("png");
  });
  test("own what is named after them", () => {
    expect(comesWith("format", "format.depth")).toBe(true);
    expect(comesWith("format", "format")).toBe(false);
    expect(comesWith("form", "format.depth")).toBe(false);
  });
});

describe("a value that another field of the same name takes over", () => {
  test("must fit the new field", () => {
    expect(mayStay({ kind: "int", min: 0, max: 100 }, 64)).toBe(true);
    expect(mayStay({ kind: "int", min: 0, max: 50 }, 64)).toBe(false);
    expect(mayStay({ kind: "int" }, 1.5)).toBe(false);
    expect(mayStay({ kind: "combo", options: ["8-bit"] }, "16-bit")).toBe(false);
    expect(mayStay({ kind: "combo", options: ["8-bit", "16-bit"] }, "16-bit")).toBe(true);
  });
});

import { describe, expect, test } from "vitest";
import type { NodeSpec } from "../src/api";
import { fits, rank, typesFit } from "../src/rank";

const spec = (type: string, display: string, category: string, inputs: string[] = [], outputs: string[] = [], extra = {}): NodeSpec => ({
  class: type, display_name: display, category,
  inputs: inputs.map((name) => ({ name, type: name, group: "required" as const })),
  outputs: outputs.map((name) => ({ name, type: name })),
  ...extra,
});
const SPECS = [
  spec("KSampler", "KSampler", "sampling", ["MODEL", "LATENT"], ["LATENT"]),
  spec("KSamplerAdvanced", "KSampler (Advanced)", "sampling", ["MODEL"], ["LATENT"]),
  spec("SamplerEuler", "Euler", "sampling/samplers", [], ["SAMPLER"]),
  spec("LoadImage", "Load Image", "image", [], ["IMAGE", "MASK"]),
  spec("ImageScale", "Upscale Image", "image", ["IMAGE"], ["IMAGE"]),
  spec("OldLoad", "Load Image (old)", "image", [], ["IMAGE"], { deprecated: true }),
];
const found = (query: string): string[] => rank(SPECS, query).map(({ class: type }) => type);

describe("what is typed", () => {
  test.each<[string, string[]]>([
    ["ksampler", ["KSampler", "KSamplerAdvanced"]],
    ["load im", ["LoadImage", "OldLoad"]],
    ["adv", ["KSamplerAdvanced"]],
    ["image load", ["LoadImage", "OldLoad"]],
    ["ksmplr", ["KSampler", "KSamplerAdvanced"]],
    ["nothing such", []],
  ])("%s finds %o", (query, wanted) => {
    expect(found(query)).toEqual(wanted);
  });
  test("nothing typed offers everything", () => {
    expect(found("")).toHaveLength(SPECS.length);
  });
});

describe("what fits a link", () => {
  test.each<[string, string, boolean]>([
    ["IMAGE", "IMAGE", true],
    ["IMAGE", "MASK", false],
    ["*", "MASK", true],
    ["INT,FLOAT", "float", true],
  ])("%s and %s", (a, b, wanted) => {
    expect(typesFit(a, b)).toBe(wanted);
  });
  test("an output wants an input and the other way round", () => {
    const names = (wants: "input" | "output"): string[] => SPECS.filter((s) => fits(s, { type: "IMAGE", wants })).map((s) => s.class);
    expect(names("input")).toEqual(["ImageScale"]);
    expect(names("output")).toEqual(["LoadImage", "ImageScale", "OldLoad"]);
  });
});

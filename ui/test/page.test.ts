import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test, vi } from "vitest";
import { written } from "../src/keyname";

vi.stubGlobal("document", { createElement: () => ({}) });
vi.stubGlobal("sessionStorage", { getItem: () => null, setItem: () => undefined });
const { DARK, LIGHT } = await import("../src/theme");
const { asApiGraph, asLink } = await import("../src/apiformat");

test.each([
  [{ key: "z", ctrlKey: true }, "Ctrl+Z"],
  [{ key: "Z", metaKey: true, shiftKey: true }, "Ctrl+Shift+Z"],
  [{ key: "Enter", ctrlKey: true, altKey: true }, "Ctrl+Alt+Enter"],
  [{ key: " " }, "Space"],
  [{ key: ".", }, "."],
])("%o is written %s", (event, wanted) => {
  expect(written({ ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...event })).toBe(wanted);
});

/** Relative luminance, as WCAG 2 defines it. */
function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const c = parseInt(colour.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const contrast = (a: string, b: string): number => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
};

describe.each([["dark", DARK], ["light", LIGHT]])("the colours of the canvas, %s", (_, p) => {
  test.each([
    ["text on nodes", p.text, p.nodeBody], ["text on titles", p.text, p.nodeTitle], ["text in fields", p.text, p.widget],
    ["labels on nodes", p.dim, p.nodeBody], ["labels in fields", p.dim, p.widget], ["messages", p.failed, p.nodeBody],
    ["queued", p.onState, p.queued], ["running", p.onState, p.running], ["cached", p.onState, p.cached],
    ["done", p.onState, p.done], ["failed", p.onState, p.failed],
  ])("%s can be read", (_, text, ground) => {
    expect(contrast(text, ground)).toBeGreaterThanOrEqual(4.5);
  });
});

describe("the examples", () => {
  const folder = new URL("../public/workflows/examples/", import.meta.url);
  const read = (name: string): any => JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  const index = read("index.json") as { file: string; title: string; about: string; needs: string[] }[];
  test("are all listed", () => {
    const files = readdirSync(folder).filter((name) => name !== "index.json");
    expect(index.map(({ file }) => file).sort()).toEqual(files.sort());
  });
  test.each(index)("$title is whole", ({ file, about, needs }) => {
    const graph = asApiGraph(read(file))!;
    expect(about).not.toBe("");
    expect([...new Set(Object.values(graph).map((node) => node.class_type))].sort()).toEqual(needs);
    for (const { inputs } of Object.values(graph)) {
      for (const value of Object.values(inputs)) {
        const link = asLink(value);
        if (link) expect(graph[link[0]]).toBeDefined();
      }
    }
  });
});

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test, vi } from "vitest";
import { contrast, towards } from "../src/contrast";
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

test.each([
  ["#322", "#e4e7ee", "#332222"],
  ["#322", "#1c212b", "lighter"],
  ["not a colour", "#1c212b", "not a colour"],
])("a node coloured %s under text of %s", (colour, text, wanted) => {
  const made = towards(colour, "#fbfcfd", text);
  if (wanted === "lighter") expect(contrast(made, text)).toBeGreaterThanOrEqual(4.5);
  else expect(made).toBe(wanted);
});

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

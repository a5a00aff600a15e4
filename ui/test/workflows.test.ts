import { readFileSync } from "node:fs";
import { describe, expect, test, vi } from "vitest";

// The graph library looks for a document when it is loaded.
vi.stubGlobal("document", { createElement: () => ({}) });
const { asApiGraph, asLink, isUiWorkflow } = await import("../src/apiformat");

interface Slot { name: string; type: string; link?: number | null; links?: number[] }
interface UiNode { id: number; type: string; inputs: Slot[]; outputs: Slot[]; widgets_values?: unknown[] }

const read = (name: string): any => JSON.parse(readFileSync(new URL(`../public/workflows/${name}`, import.meta.url), "utf8"));
const ui = read("default.json") as { nodes: UiNode[]; links: [number, number, number, number, number, string][] };
const api = asApiGraph(read("default_api.json"))!;

describe("the default workflow", () => {
  test("every link agrees with both of its ends", () => {
    const byId = new Map(ui.nodes.map((node) => [node.id, node]));
    for (const [id, from, output, to, input, type] of ui.links) {
      expect(byId.get(from)!.outputs[output]).toMatchObject({ type, links: expect.arrayContaining([id]) });
      expect(byId.get(to)!.inputs[input]).toMatchObject({ type, link: id });
    }
    const used = ui.nodes.flatMap((node) => node.inputs.map(({ link }) => link)).filter((link) => link != null);
    expect(used.sort()).toEqual(ui.links.map(([id]) => id).sort());
  });

  test("both formats say the same", () => {
    for (const node of ui.nodes) {
      const twin = api[String(node.id)]!;
      expect(twin.class_type).toBe(node.type);
      for (const slot of node.inputs) {
        const link = ui.links.find(([id]) => id === slot.link);
        if (link) expect(asLink(twin.inputs[slot.name])).toEqual([String(link[1]), link[2]]);
        else expect(node.widgets_values).toContain(twin.inputs[slot.name]);
      }
    }
  });
});

describe("formats", () => {
  test("are told apart", () => {
    expect(isUiWorkflow(ui)).toBe(true);
    expect(isUiWorkflow(api)).toBe(false);
    expect(asApiGraph({ prompt: api })).toEqual(api);
    for (const other of [null, 3, [], {}, { a: 1 }, { "1": { class_type: "X" } }]) expect(asApiGraph(other)).toBeUndefined();
  });
});

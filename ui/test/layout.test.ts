import { expect, test } from "vitest";
import { columns, layOut, type Box, type Edge } from "../src/layout";

// The default workflow: loader, two prompts, latent, sampler, decoder, saver.
const EDGES: Edge[] = [[1, 2], [1, 3], [1, 5], [2, 5], [3, 5], [4, 5], [5, 6], [1, 6], [6, 7]];
const IDS = [1, 2, 3, 4, 5, 6, 7];
const boxes: Box[] = IDS.map((id) => ({ id, width: 200, height: 80 + id * 10 }));

test("columns follow the links, and loops end", () => {
  expect(Object.fromEntries(columns(IDS, EDGES))).toEqual({ 1: 0, 2: 1, 3: 1, 4: 0, 5: 2, 6: 3, 7: 4 });
  expect([...columns(["a", "b"], [["a", "b"], ["b", "a"]]).keys()].sort()).toEqual(["a", "b"]);
});

test("nodes never overlap and every link runs to the right", () => {
  const placed = layOut(boxes, EDGES);
  for (const [from, to] of EDGES) expect(placed.get(from)![0]).toBeLessThan(placed.get(to)![0]);
  for (const a of boxes) {
    for (const b of boxes) {
      if (a.id >= b.id) continue;
      const [[ax, ay], [bx, by]] = [placed.get(a.id)!, placed.get(b.id)!];
      const apart = ax + a.width <= bx || bx + b.width <= ax || ay + a.height + 30 <= by || by + b.height + 30 <= ay;
      expect(apart, `${a.id} and ${b.id}`).toBe(true);
    }
  }
});

test("a node that needs nothing stands beside the node that uses it", () => {
  const placed = layOut(boxes, EDGES);
  expect(placed.get(4)![0]).toBe(placed.get(2)![0]);
});

test("nothing to lay out is no error", () => {
  expect(layOut([], []).size).toBe(0);
});

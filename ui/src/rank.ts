/** Finding nodes by what a user types, and by what fits a link. Pure. */

import type { NodeSpec } from "./api";

/** An end of a link that was dropped on the empty canvas. */
export interface OpenEnd {
  type: string;
  /** What the new node must have: an input for a link that comes from an output, else an output. */
  wants: "input" | "output";
}

/** Whether a link of one type may end in a socket of the other; `A,B` and `*` name several. */
export function typesFit(a: string, b: string): boolean {
  if (a === "*" || b === "*" || a === "" || b === "") return true;
  const wanted = b.toUpperCase().split(",");
  return a.toUpperCase().split(",").some((type) => wanted.includes(type));
}

export function fits(spec: NodeSpec, end: OpenEnd): boolean {
  if (end.wants === "output") return spec.outputs.some(({ type }) => typesFit(type, end.type));
  return spec.inputs.some(({ group, type }) => group !== "hidden" && typesFit(end.type, type));
}

/** How well one word describes a node; 0 for not at all. */
function score(spec: NodeSpec, word: string): number {
  const name = (spec.display_name || spec.class).toLowerCase();
  if (name === word || spec.class.toLowerCase() === word) return 100;
  if (name.startsWith(word)) return 60;
  if (name.split(/[\s(/_-]+/).some((part) => part.startsWith(word))) return 40;
  if (spec.class.toLowerCase().includes(word)) return 25;
  if (name.includes(word)) return 20;
  if ((spec.category ?? "").toLowerCase().includes(word)) return 8;
  return isSubsequence(word, spec.class.toLowerCase()) && word.length > 3 ? 3 : 0;
}

function isSubsequence(word: string, text: string): boolean {
  let at = 0;
  for (const letter of word) {
    at = text.indexOf(letter, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

/** The nodes that every typed word describes, best first. */
export function rank(specs: Iterable<NodeSpec>, query: string): NodeSpec[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: [number, NodeSpec][] = [];
  for (const spec of specs) {
    const scores = words.map((word) => score(spec, word));
    if (scores.includes(0)) continue;
    const total = scores.reduce((sum, one) => sum + one, 0) - (spec.deprecated ? 30 : 0);
    found.push([total, spec]);
  }
  const name = (spec: NodeSpec): string => spec.display_name || spec.class;
  found.sort(([a, x], [b, y]) => b - a || name(x).length - name(y).length || name(x).localeCompare(name(y)));
  return found.map(([, spec]) => spec);
}

/** Lays a graph out in columns from left to right. Pure. */

export interface Box {
  id: number | string;
  width: number;
  height: number;
}
export type Edge = readonly [from: number | string, to: number | string];
type Id = Box["id"];

const GAP_X = 54;
const GAP_Y = 46;
const SWEEPS = 4;

/** How many links lie between a node and the start of the graph; loops count once. */
export function columns(ids: readonly Id[], edges: readonly Edge[]): Map<Id, number> {
  const column = new Map<Id, number>();
  const known = new Set(ids);
  const sources = new Map<Id, Id[]>(ids.map((id) => [id, []]));
  for (const [from, to] of edges) if (known.has(from)) sources.get(to)?.push(from);
  const visit = (id: Id, path: Set<Id>): number => {
    const done = column.get(id);
    if (done !== undefined) return done;
    if (path.has(id)) return 0;
    const below = new Set(path).add(id);
    const depths = (sources.get(id) ?? []).map((source) => visit(source, below) + 1);
    const depth = Math.max(0, ...depths);
    column.set(id, depth);
    return depth;
  };
  for (const id of ids) visit(id, new Set());
  return column;
}

/** Moves nodes that depend on nothing up to the first node that uses them. */
function pullSources(column: Map<Id, number>, edges: readonly Edge[]): void {
  for (const id of column.keys()) {
    if (edges.some(([, to]) => to === id)) continue;
    const users = edges.filter(([from]) => from === id).map(([, to]) => column.get(to) ?? 0);
    if (users.length > 0) column.set(id, Math.max(0, Math.min(...users) - 1));
  }
}

/** Sorts each column by where the neighbours of its nodes are. */
function untangle(rows: Box[][], edges: readonly Edge[]): void {
  const place = new Map<Id, number>();
  const number = (row: Box[]): void => row.forEach(({ id }, index) => place.set(id, index / Math.max(1, row.length)));
  rows.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forward = sweep % 2 === 0;
    for (const row of forward ? rows : [...rows].reverse()) {
      const wish = (id: Id): number => {
        const ends = edges.flatMap(([from, to]) => (forward ? (to === id ? [from] : []) : from === id ? [to] : []));
        const places = ends.map((end) => place.get(end) ?? 0);
        return places.length > 0 ? places.reduce((a, b) => a + b, 0) / places.length : (place.get(id) ?? 0);
      };
      const wishes = new Map(row.map(({ id }) => [id, wish(id)]));
      row.sort((a, b) => (wishes.get(a.id) ?? 0) - (wishes.get(b.id) ?? 0));
      number(row);
    }
  }
}

/** The place of each node; `top` is kept free above each for its title. */
export function layOut(boxes: readonly Box[], edges: readonly Edge[], top = 30): Map<Id, [number, number]> {
  const column = columns(boxes.map(({ id }) => id), edges);
  pullSources(column, edges);
  const rows: Box[][] = [];
  for (const box of boxes) (rows[column.get(box.id) ?? 0] ??= []).push(box);
  const used = rows.filter((row) => row !== undefined);
  untangle(used, edges);
  const total = (row: Box[]): number => row.reduce((sum, { height }) => sum + height + top, (row.length - 1) * GAP_Y);
  const tallest = Math.max(0, ...used.map(total));
  const placed = new Map<Id, [number, number]>();
  let x = 60;
  for (const row of used) {
    // Columns are centred on the tallest, so that links run level.
    let y = 60 + (tallest - total(row)) / 2;
    for (const { id, height } of row) {
      placed.set(id, [Math.round(x), Math.round(y + top)]);
      y += height + top + GAP_Y;
    }
    x += Math.max(...row.map(({ width }) => width)) + GAP_X;
  }
  return placed;
}

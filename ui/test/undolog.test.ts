import { expect, test } from "vitest";
import { UndoLog } from "../src/undolog";

test("goes back and forth, and a new state ends the way forth", () => {
  const log = new UndoLog("a");
  expect(log.canUndo).toBe(false);
  expect(log.record("a")).toBe(false);
  for (const state of ["b", "c", "d"]) expect(log.record(state)).toBe(true);
  expect([log.undo(), log.undo(), log.redo()]).toEqual(["c", "b", "c"]);
  expect(log.record("e")).toBe(true);
  expect(log.canRedo).toBe(false);
  expect([log.undo(), log.undo(), log.undo(), log.undo()]).toEqual(["c", "b", "a", undefined]);
});

test("forgets the oldest states past its depth", () => {
  const log = new UndoLog("0", 3);
  for (let i = 1; i <= 9; i += 1) log.record(String(i));
  const seen = [];
  for (let state = log.undo(); state !== undefined; state = log.undo()) seen.push(state);
  expect(seen).toEqual(["8", "7", "6"]);
});

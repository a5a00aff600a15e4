/** A line of states to go back and forth on. Pure. */

export class UndoLog {
  private past: string[] = [];
  private future: string[] = [];

  constructor(
    private present: string,
    private readonly depth = 100,
  ) {}

  /** Adds a state; `false` when it is the one already there. */
  record(state: string): boolean {
    if (state === this.present) return false;
    this.past.push(this.present);
    if (this.past.length > this.depth) this.past.shift();
    this.present = state;
    this.future = [];
    return true;
  }

  undo(): string | undefined {
    return this.move(this.past, this.future);
  }

  redo(): string | undefined {
    return this.move(this.future, this.past);
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  private move(from: string[], to: string[]): string | undefined {
    const next = from.pop();
    if (next === undefined) return undefined;
    to.push(this.present);
    this.present = next;
    return next;
  }
}

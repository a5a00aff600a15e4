/** Which saved workflow the canvas shows, and whether it was changed since. */

import { store } from "./app";

const KEY = "comfy.openWorkflow";

interface Kept {
  name?: string;
  /** Stands for the state that was last saved or opened. */
  saved?: number;
}

/** A number for a text; equal texts have equal numbers (FNV-1a). */
export function fingerprint(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

class Session {
  private kept: Kept = read();
  private current = 0;

  /** The name on the server, without `.json`; unset for a workflow never saved. */
  get name(): string | undefined {
    return this.kept.name;
  }

  /** Another workflow came onto the canvas. */
  opened(name: string | undefined): void {
    this.keep({ name });
    store.emit("graph");
  }

  /** The canvas is what the server holds. */
  stored(name: string): void {
    this.keep({ name, saved: this.current });
  }

  /** The file on the server is gone or renamed; the canvas is as it was. */
  renamed(name: string | undefined): void {
    this.keep({ ...this.kept, name });
  }

  /** Told of every settled state of the canvas. */
  settled(state: string): void {
    const before = this.dirty;
    this.current = fingerprint(state);
    // The first state after opening is the one that was opened.
    if (this.kept.saved === undefined) this.keep({ ...this.kept, saved: this.current });
    else if (before !== this.dirty) store.emit("workflow");
  }

  get dirty(): boolean {
    return this.kept.saved !== undefined && this.kept.saved !== this.current;
  }

  private keep(kept: Kept): void {
    this.kept = kept;
    store.emit("workflow");
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // The name is then asked for again at the next visit.
    }
  }
}

function read(): Kept {
  try {
    return (JSON.parse(localStorage.getItem(KEY) ?? "{}") as Kept) ?? {};
  } catch {
    return {};
  }
}

export const session = new Session();

/** How a node grows for what its run showed, and shrinks back when that goes. */

import type { LGraphNode } from "@comfyorg/litegraph";

export class Growth {
  private shown = new Set<object>();
  /** Body height before the first result. */
  private before: number | undefined;
  private placing = false;

  constructor(private node: LGraphNode) {}

  /** Makes room for a part of the node that now shows something. */
  grow(part: object): void {
    if (this.shown.size === 0) this.before = this.node.size[1];
    this.shown.add(part);
    const needed = this.node.computeSize()[1];
    if (this.node.size[1] < needed) this.resize(needed);
  }

  shrink(part: object): void {
    if (!this.shown.delete(part) || this.shown.size > 0 || this.before === undefined) return;
    this.resize(this.before);
    this.before = undefined;
  }

  private resize(height: number): void {
    this.placing = true;
    this.node.setSize([this.node.size[0], height]);
    this.placing = false;
  }

  /** The height to save: what the node has without its results. */
  get restingHeight(): number {
    return this.before ?? this.node.size[1];
  }

  /** A size the user gave the node with results in it is meant to stay. */
  resizedByHand(): void {
    if (!this.placing) this.before = undefined;
  }
}

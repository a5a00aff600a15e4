/** Turns node definitions from `/v1/nodes` into litegraph node types. */

import {
  LGraphNode,
  LiteGraph,
  RenderShape,
  type LGraph,
} from "@comfyorg/litegraph";
import type { IBaseWidget, ISerialisedNode } from "./litegraph";
import type { InputSpec, NodeSpec, WidgetSpec } from "./api";
import { palette, readable } from "./theme";
import { drawEmptyFrame, drawTitleBadge, drawTitleProgress, stateStroke } from "./nodeview";
import { editor, isEditing, store } from "./app";
import { everyNode, pathId } from "./subgraphs";
import { showInputPicture, uploadButton } from "./uploads";
import { ComboField } from "./widgets/combo";
import { comesWith, isChoice, liveInputs, mayStay, shortName } from "./widgets/dynamic";
import { NumberField } from "./widgets/number";
import { Growth } from "./widgets/growth";
import { PictureArea } from "./widgets/picture";
import { TextField } from "./widgets/text";
import { TextResult } from "./widgets/textresult";
import { alignValues, CONTROL_MODES, CONTROL_NAME, defaultValue, type Numeric } from "./widgets/values";

/** Node types that exist in the editor only; the server drops or follows them. */
export const EDITOR_ONLY = new Set(["Note", "MarkdownNote", "Reroute", "PrimitiveNode"]);

/** Modes a node can be in, as workflow files number them. */
export const MODE = { always: 0, mute: 2, bypass: 4 } as const;

/** Every node of the page: a drawn state, a place for pictures, and slots from its definition. */
export class ComfyNode extends LGraphNode {
  static spec: NodeSpec | undefined;
  growth: Growth;
  pictures: PictureArea;
  texts: TextResult;
  onPicture: ((index: number) => void) | undefined;

  constructor(title: string, type: string) {
    super(title, type);
    this.serialize_widgets = true;
    this.growth = new Growth(this);
    this.pictures = new PictureArea(this, this.growth);
    this.texts = new TextResult(this, this.growth);
    Object.assign(this.strokeStyles, {
      state: () => stateStroke(this),
    });
  }

  get spec(): NodeSpec | undefined {
    return (this.constructor as typeof ComfyNode).spec;
  }

  override get renderingColor(): string {
    return this.mode === MODE.bypass ? palette.cached : readable(super.renderingColor as string, "text");
  }

  override get renderingBgColor(): string {
    return readable(super.renderingBgColor as string, "dim");
  }

  override drawProgressBar(ctx: CanvasRenderingContext2D): void {
    drawTitleProgress(this, ctx);
  }

  override onDrawTitle(ctx: CanvasRenderingContext2D): void {
    drawTitleBadge(this, ctx);
  }

  override onDrawForeground(ctx: CanvasRenderingContext2D): void {
    const isEmpty = this.pictures.shown.length === 0 && this.texts.shown === "";
    if (isEmpty && this.spec?.output_node && !this.collapsed && !editor().low_quality) drawEmptyFrame(this, ctx);
  }

  override onSerialize(data: ISerialisedNode): void {
    data.size = [this.size[0], this.growth.restingHeight];
  }

  override onResize(): void {
    if (isEditing() && editor().resizing_node === this) this.growth.resizedByHand();
  }

  override onWidgetChanged(name: string): void {
    const isOther = this.chose(name);
    this.edited();
    // The panel shows other fields now, even to somebody who is typing in one.
    if (isOther && this.graph) store.emit("selection");
  }

  override onConnectionsChange(): void {
    this.edited();
  }

  /** A node that failed gets another chance once it is edited. */
  protected edited(): void {
    if (this.graph && this.id !== -1) store.edited(pathId(this));
    store.emit("graph");
  }

  /** The inputs that the node has just now: those of its definition, and what its choices bring. */
  get live(): InputSpec[] {
    const chosen = ({ name, widget }: InputSpec): unknown => this.field(name)?.value ?? defaultValue(widget as WidgetSpec);
    return liveInputs(this.spec?.inputs ?? [], chosen);
  }

  /** What the definition says about an input that the node has just now. */
  input(name: string): InputSpec | undefined {
    return this.live.find((input) => input.name === name);
  }

  /** To be called when a field has another value: a choice then brings other inputs. Says whether it is one. */
  chose(name: string): boolean {
    const input = this.input(name);
    if (!input || !isChoice(input)) return false;
    bringInputs(this, name);
    return true;
  }

  /** The widget that feeds an input, if it has one. */
  field(name: string): IBaseWidget | undefined {
    return this.widgets?.find((widget) => widget.name === name);
  }
}

function socketInput(input: InputSpec): boolean {
  return input.group !== "hidden" && (!input.widget || input.force_input === true);
}

function fieldInput(input: InputSpec): boolean {
  return input.group !== "hidden" && !socketInput(input);
}

function makeWidget(node: LGraphNode, name: string, spec: WidgetSpec): IBaseWidget {
  const value = defaultValue(spec);
  switch (spec.kind) {
    case "int":
    case "float":
      return new NumberField(name, spec, value as Numeric, node) as IBaseWidget;
    case "text":
      return new TextField(name, value as string, spec.multiline ?? false, node) as IBaseWidget;
    case "combo": {
      const combo = new ComboField(name, spec.options, value as string, node);
      combo.open = spec.open ?? false;
      if (spec.folder === "checkpoints") combo.cover = (name) => store.coverOf(name);
      return combo as IBaseWidget;
    }
    case "dynamic_combo": {
      const keys = spec.options.map(({ key }) => key);
      return new ComboField(name, keys, value as string, node) as IBaseWidget;
    }
    case "bool":
      return {
        name,
        type: "toggle",
        value: value as boolean,
        options: { on: spec.label_on, off: spec.label_off },
        y: 0,
      };
  }
}

function addField(node: ComfyNode, input: InputSpec, spec: WidgetSpec): void {
  const widget = node.addCustomWidget(makeWidget(node, input.name, spec));
  widget.tooltip = input.tooltip;
  if (shortName(input.name) !== input.name) widget.label = shortName(input.name);
  if (spec.kind === "int" && spec.control_after_generate) {
    const control = new ComboField(CONTROL_NAME, [...CONTROL_MODES], "randomize", node);
    control.label = "after each run";
    node.addCustomWidget(control as IBaseWidget);
  }
  if (spec.kind === "combo" && spec.upload === "image") {
    node.addCustomWidget(uploadButton(node, input.name));
  }
}

function addSlot(node: ComfyNode, input: InputSpec): void {
  const label = shortName(input.name) === input.name ? {} : { label: shortName(input.name) };
  if (fieldInput(input)) {
    node.addInput(input.name, input.type, { widget: { name: input.name }, ...label });
    return;
  }
  const shape = input.group === "optional" ? { shape: RenderShape.HollowCircle } : {};
  node.addInput(input.name, input.type, { ...shape, ...label });
}

/** Puts the inputs of the option that is chosen now in the place of those that were there. */
function bringInputs(node: ComfyNode, choice: string): void {
  const old = (node.widgets ?? []).filter(({ name }) => comesWith(choice, name));
  const values = new Map(old.map(({ name, value }) => [name, value]));
  for (const widget of old) node.removeWidget(widget);
  const wanted = node.live.filter(({ name }) => comesWith(choice, name));
  for (const slot of node.inputs.filter(({ name }) => comesWith(choice, name))) {
    const input = wanted.find(({ name }) => name === slot.name);
    if (!input || fieldInput(input) !== (slot.widget !== undefined || values.has(slot.name))) {
      node.removeInput(node.inputs.indexOf(slot));
    }
  }
  const all = node.widgets ?? [];
  const end = all.length;
  for (const input of wanted.filter(fieldInput)) {
    addField(node, input, input.widget as WidgetSpec);
    const value = values.get(input.name);
    const widget = node.field(input.name);
    if (widget && mayStay(input.widget as WidgetSpec, value)) widget.value = value as IBaseWidget["value"];
  }
  // New fields come last; they belong behind their choice.
  const added = all.splice(end);
  all.splice(all.findIndex(({ name }) => name === choice) + 1, 0, ...added);
  for (const input of wanted) {
    const slot = node.inputs.find(({ name }) => name === input.name);
    if (!slot) addSlot(node, input);
    else if (fieldInput(input)) slot.widget = { name: input.name };
  }
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0]), height]);
  node.setDirtyCanvas(true, true);
}

function build(node: ComfyNode, spec: NodeSpec): void {
  const inputs = node.live;
  for (const input of inputs.filter(socketInput)) addSlot(node, input);
  for (const input of inputs.filter(fieldInput)) {
    addField(node, input, input.widget as WidgetSpec);
    addSlot(node, input);
  }
  for (const output of spec.outputs) {
    const shape = output.is_list ? RenderShape.GRID : undefined;
    node.addOutput(output.name, output.type, shape === undefined ? {} : { shape });
  }
  node.addCustomWidget(node.texts as IBaseWidget);
  node.addCustomWidget(node.pictures as IBaseWidget);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, 240), height]);
}

const storedFields = (node: ComfyNode): IBaseWidget[] =>
  (node.widgets ?? []).filter((widget) => widget.serialize !== false);

/** Stored values by field. They are in the order of the fields, of which a stored choice may bring others. */
function storedValues(node: ComfyNode, stored: unknown): Map<string, unknown> {
  const aligned = (): Map<string, unknown> =>
    Array.isArray(stored)
      ? alignValues(storedFields(node).map(({ name }) => name), stored)
      : new Map(Object.entries((stored as Record<string, unknown>) ?? {}));
  const settled = new Set<string>();
  for (;;) {
    const values = aligned();
    const next = node.live.find((input) => isChoice(input) && !settled.has(input.name));
    if (!next) return values;
    settled.add(next.name);
    const widget = node.field(next.name);
    const value = values.get(next.name);
    if (!widget || typeof value !== "string") continue;
    widget.value = value;
    node.chose(next.name);
  }
}

/** Takes away what litegraph left of the first choice when it laid stored slots over it. */
function forgetFirstChoice(node: ComfyNode, stored: ISerialisedNode["inputs"]): void {
  if (!stored) return;
  node.inputs.length = Math.min(node.inputs.length, stored.length);
  node.inputs.forEach((slot, index) => {
    slot.label = stored[index]?.label;
    if (!stored[index]?.widget) delete slot.widget;
  });
}

/** Lays stored values over the fields and restores slots that older files leave out. */
function restore(node: ComfyNode, spec: NodeSpec, info: ISerialisedNode): void {
  const size: [number, number] = [node.size[0], node.size[1]];
  if (spec.inputs.some(isChoice)) forgetFirstChoice(node, info.inputs);
  const values = storedValues(node, info.widgets_values);
  const inputs = node.live;
  for (const widget of storedFields(node)) {
    const input = inputs.find(({ name }) => name === widget.name);
    const value = values.get(widget.name);
    if (value !== undefined && value !== null) widget.value = value as IBaseWidget["value"];
    else if (input?.widget) widget.value = defaultValue(input.widget) as IBaseWidget["value"];
    else if (widget.name === CONTROL_NAME) widget.value = "fixed";
  }
  if (inputs.some(isChoice)) node.setSize(size);
  for (const input of inputs.filter(({ group }) => group !== "hidden")) {
    const slot = node.inputs.find(({ name }) => name === input.name);
    const extra = fieldInput(input) ? { widget: { name: input.name } } : {};
    if (!slot) node.addInput(input.name, input.type, extra);
    else Object.assign(slot, { type: input.type }, extra);
    if (slot && shortName(input.name) !== input.name) slot.label ??= shortName(input.name);
  }
  spec.outputs.forEach((output, index) => {
    if (!node.outputs[index]) node.addOutput(output.name, output.type);
  });
}

function defineNode(spec: NodeSpec): void {
  const title = spec.display_name || spec.class;
  class Defined extends ComfyNode {
    static override title = title;
    static override spec = spec;
    constructor(given?: string) {
      super(given || title, spec.class);
      build(this, Defined.spec);
    }

    override onConfigure(info: ISerialisedNode): void {
      restore(this, Defined.spec, info);
      showInputPicture(this);
    }

    override onWidgetChanged(name: string): void {
      showInputPicture(this);
      super.onWidgetChanged(name);
    }
  }
  LiteGraph.registerNodeType(spec.class, Defined);
  // litegraph derives the category from slashes in the type; ours have none.
  Defined.category = spec.category || "other";
}

/** A stand-in for a type the server does not offer: it keeps slots and values as they came. */
function defineUnknown(type: string): void {
  const editorOnly = EDITOR_ONLY.has(type);
  class Unknown extends ComfyNode {
    static override title = type;
    static override skip_list = true;
    private kept: unknown;

    constructor(given?: string) {
      super(given || type, type);
      this.serialize_widgets = false;
      this.has_errors = !editorOnly;
    }

    override onConfigure(info: ISerialisedNode): void {
      this.kept = info.widgets_values;
      if (type === "Note" || type === "MarkdownNote") this.showNote(info);
    }

    private showNote(info: ISerialisedNode): void {
      const text = String(info.widgets_values?.[0] ?? "");
      const note = new TextField("note", text, true, this);
      note.callback = (value: string) => (this.kept = [value]);
      this.addCustomWidget(note as IBaseWidget);
    }

    override onSerialize(data: ISerialisedNode): void {
      super.onSerialize(data);
      if (this.kept !== undefined) data.widgets_values = this.kept as never;
    }
  }
  LiteGraph.registerNodeType(type, Unknown);
}

/** Registers every definition; existing nodes get their new choices. */
export function registerNodes(specs: readonly NodeSpec[], graph: LGraph): void {
  for (const spec of specs) {
    const known = LiteGraph.registered_node_types[spec.class] as typeof ComfyNode | undefined;
    if (known?.spec) {
      known.spec = spec;
      known.category = spec.category || "other";
    } else {
      defineNode(spec);
    }
  }
  for (const node of everyNode(graph)) if (node instanceof ComfyNode) refreshChoices(node);
}

function refreshChoices(node: ComfyNode): void {
  for (const input of node.live) {
    const widget = node.field(input.name);
    if (input.widget?.kind === "combo" && widget instanceof ComboField) {
      widget.choices = input.widget.options;
      if (widget.value === "" && input.widget.options[0]) widget.value = input.widget.options[0];
    }
  }
  node.setDirtyCanvas(true, true);
}

/** Registers stand-ins for types of a workflow nobody defines; returns the ones truly missing. */
export function registerMissing(types: Iterable<string>): string[] {
  const missing = new Set<string>();
  for (const type of types) {
    const known = LiteGraph.registered_node_types[type] as typeof ComfyNode | undefined;
    if (!known) defineUnknown(type);
    if (!known?.spec && !EDITOR_ONLY.has(type)) missing.add(type);
  }
  return [...missing];
}

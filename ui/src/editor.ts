/** Real HTML inputs laid over a widget while the user types or chooses. */

import { LiteGraph, type LGraphCanvas, type LGraphNode } from "@comfyorg/litegraph";
import type { IBaseWidget } from "./litegraph";
import { h } from "./dom";

interface Place {
  canvas: LGraphCanvas;
  node: LGraphNode;
  widget: IBaseWidget;
}

interface EditorOptions extends Place {
  text: string;
  multiline?: boolean;
  /** Commit at every keystroke, not only at the end. */
  live?: boolean;
  commit(text: string): void;
}

interface ChoicesOptions extends Place {
  choices: readonly string[];
  current: string;
  /** What a choice looks like, where that is known. */
  cover?(value: string): string | undefined;
  commit(value: string): void;
}

let closeCurrent: (() => void) | undefined;

/** Closes whatever is open over the canvas, keeping what was typed. */
export function closeEditor(): void {
  closeCurrent?.();
}

export function isEditorOpen(): boolean {
  return closeCurrent !== undefined;
}

function screenRect({ canvas, node, widget }: Place): DOMRect {
  const { scale, offset } = canvas.ds;
  const box = canvas.canvas.getBoundingClientRect();
  const margin = 15;
  const height = (widget.computedHeight ?? LiteGraph.NODE_WIDGET_HEIGHT + 4) - 4;
  return new DOMRect(
    box.left + (node.pos[0] + margin + offset[0]) * scale,
    box.top + (node.pos[1] + widget.y + offset[1]) * scale,
    (node.size[0] - 2 * margin) * scale,
    height * scale,
  );
}

/** Keeps `element` over the widget while the canvas is panned or zoomed. */
function follow(place: Place, element: HTMLElement): () => void {
  const put = (): void => {
    const rect = screenRect(place);
    element.style.left = `${rect.left}px`;
    element.style.top = `${rect.top}px`;
    element.style.width = `${rect.width}px`;
    element.style.height = `${rect.height}px`;
    element.style.fontSize = `${Math.max(9, 12 * place.canvas.ds.scale)}px`;
  };
  const { ds } = place.canvas;
  const before = ds.onChanged;
  ds.onChanged = (scale, offset) => {
    before?.call(ds, scale, offset);
    put();
  };
  put();
  return () => {
    ds.onChanged = before;
  };
}

export function openEditor(options: EditorOptions): void {
  closeEditor();
  const field = options.multiline
    ? h("textarea", { class: "field-editor", spellcheck: false })
    : h("input", { class: "field-editor one-line", type: "text", spellcheck: false });
  field.value = options.text;
  field.setAttribute("aria-label", options.widget.name);
  document.body.append(field);
  const unfollow = follow(options, field);
  let open = true;
  const close = (keep: boolean): void => {
    if (!open) return;
    open = false;
    closeCurrent = undefined;
    unfollow();
    if (keep) options.commit(field.value);
    else if (options.live) options.commit(options.text);
    field.remove();
  };
  closeCurrent = () => close(true);
  field.addEventListener("blur", () => close(true));
  if (options.live) field.addEventListener("input", () => options.commit(field.value));
  field.addEventListener("keydown", (event: Event) => {
    const { key, ctrlKey, metaKey } = event as KeyboardEvent;
    if (key === "Escape") close(false);
    else if (key === "Enter" && (ctrlKey || metaKey)) close(true);
    else {
      event.stopPropagation();
      if (key === "Enter" && !options.multiline) close(true);
    }
  });
  // The canvas takes the focus at the end of the same click; this comes after it.
  requestAnimationFrame(() => {
    field.focus();
    if (!options.multiline) field.select();
  });
}

/** A list with a filter box beneath a combo. */
export function openChoices(options: ChoicesOptions): void {
  closeEditor();
  const filter = h("input", { type: "search", placeholder: "Filter", spellcheck: false });
  filter.setAttribute("aria-label", `Filter ${options.widget.name}`);
  const list = h("div", { class: "choices-list", attrs: { role: "listbox" } });
  const box = h("div", { class: "choices" }, options.choices.length > 8 && filter, list);
  let marked = Math.max(0, options.choices.indexOf(options.current));
  let shown = [...options.choices];
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    closeCurrent = undefined;
    document.removeEventListener("pointerdown", outside, true);
    box.remove();
  };
  const outside = (event: Event): void => {
    if (!box.contains(event.target as Node)) close();
  };
  const pick = (value: string | undefined): void => {
    close();
    if (value !== undefined) options.commit(value);
  };
  const render = (): void => {
    list.replaceChildren(
      ...shown.map((value, index) => {
        const cover = options.cover?.(value);
        return h("button", {
          class: index === marked ? "choice marked" : "choice",
          title: value,
          onclick: () => pick(value),
          attrs: { role: "option" },
        }, cover !== undefined && h("img", { src: cover, alt: "", loading: "lazy" }), value);
      }),
    );
    if (shown.length === 0) list.append(h("p", { class: "dim" }, "Nothing to choose from."));
    list.querySelector(".marked")?.scrollIntoView({ block: "nearest" });
  };
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    shown = options.choices.filter((value) => value.toLowerCase().includes(wanted));
    marked = 0;
    render();
  });
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") close();
    else if (event.key === "Enter") pick(shown[marked]);
    else if (event.key === "ArrowDown") marked = Math.min(marked + 1, shown.length - 1);
    else if (event.key === "ArrowUp") marked = Math.max(marked - 1, 0);
    else return;
    event.preventDefault();
    if (open) render();
  });
  document.body.append(box);
  render();
  const rect = screenRect(options);
  box.style.minWidth = `${Math.max(rect.width, 180)}px`;
  box.style.left = `${Math.min(rect.left, window.innerWidth - box.offsetWidth - 8)}px`;
  const below = window.innerHeight - rect.bottom - 12;
  if (below >= Math.min(box.offsetHeight, 160)) box.style.top = `${rect.bottom + 2}px`;
  else box.style.bottom = `${window.innerHeight - rect.top + 2}px`;
  box.style.maxHeight = `${Math.max(160, Math.min(420, below, window.innerHeight - 16))}px`;
  closeCurrent = close;
  document.addEventListener("pointerdown", outside, true);
  requestAnimationFrame(() => {
    if (filter.isConnected) filter.focus();
    else (list.querySelector(".marked") as HTMLElement | null)?.focus();
  });
}

/** Dialogs over the page: the browser's own element keeps the focus inside and closes on Escape. */

import { h } from "../dom";
import { icon } from "../icons";

type Child = Node | string | undefined | false;

export interface DialogOptions {
  /** A class of its own, for the style and for tests. */
  name: string;
  title: string;
  /** Buttons beside the title. */
  actions?: Child[];
  onClose?: () => void;
}

export interface Dialog {
  element: HTMLDialogElement;
  body: HTMLElement;
  close(): void;
}

export function openDialog(options: DialogOptions, ...children: Child[]): Dialog {
  const closer = h("button", { class: "ghost close", title: "Close (Esc)", attrs: { "aria-label": "Close" } }, icon("close"));
  const body = h("div", { class: "dialog-body" }, ...children);
  const head = h("header", {}, h("h1", {}, options.title), h("span", { class: "space" }), ...(options.actions ?? []), closer);
  const element = h("dialog", { class: options.name, attrs: { "aria-label": options.title } }, head, body);
  const close = (): void => element.close();
  closer.onclick = close;
  element.addEventListener("close", () => {
    element.remove();
    options.onClose?.();
  });
  element.addEventListener("pointerdown", (event) => {
    if (event.target === element) close();
  });
  // Keys pressed in a dialog are no shortcuts of the canvas beneath.
  element.addEventListener("keydown", (event) => {
    event.stopPropagation();
    // A search field would keep the first Escape to itself.
    if (event.key !== "Escape") return;
    event.preventDefault();
    close();
  });
  document.body.append(element);
  element.showModal();
  return { element, body, close };
}

/** A yes-or-no question; resolves to the answer. */
export function ask(question: string, yes: string): Promise<boolean> {
  return new Promise((resolve) => {
    let answer = false;
    const go = h("button", { class: "primary", textContent: yes });
    const no = h("button", { textContent: "Cancel" });
    const dialog = openDialog(
      { name: "ask", title: question, onClose: () => resolve(answer) },
      h("div", { class: "buttons" }, no, go),
    );
    no.onclick = dialog.close;
    go.onclick = () => {
      answer = true;
      dialog.close();
    };
    go.focus();
  });
}

/** Asks for a line of text; `undefined` when the user changes their mind. */
export function askText(question: string, initial: string, yes: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let answer: string | undefined;
    const field = h("input", { type: "text", value: initial, spellcheck: false, attrs: { "aria-label": question } });
    const go = h("button", { class: "primary", textContent: yes, type: "submit" });
    const form = h("form", { class: "ask-text" }, field, go);
    const dialog = openDialog({ name: "ask", title: question, onClose: () => resolve(answer) }, form);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim() === "") return;
      answer = field.value.trim();
      dialog.close();
    };
    field.focus();
    field.select();
  });
}

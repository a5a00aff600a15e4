/** The mask editor: paints on the picture of a loader which part of it is masked. */

import { api, viewUrl, type ImageRef } from "../api";
import { h } from "../dom";
import { icon } from "../icons";
import type { ComfyNode } from "../nodes";
import { inputPicture, setPicture } from "../uploads";
import { openDialog } from "./dialog";
import { MaskBoard } from "./maskboard";
import { toast } from "./toasts";

async function loaded(image: ImageRef): Promise<HTMLImageElement> {
  const element = new Image();
  element.src = viewUrl(image);
  await element.decode();
  return element;
}

/** A name of its own for each mask, because nodes are cached by the name and state of their file. */
function maskName(filename: string): string {
  const stem = filename.replace(/\.[^.]*$/, "").replace(/^masked-|-\d{13}$/g, "");
  return `masked-${stem}-${Date.now()}.png`;
}

export function openMaskEditor(node: ComfyNode): void {
  const image = inputPicture(node);
  if (!image) return toast("info", "Choose a picture first; the mask is drawn on it.");
  loaded(image).then(
    (picture) => edit(node, image, picture),
    () => toast("error", `The picture ${image.filename} could not be read.`),
  );
}

function edit(node: ComfyNode, image: ImageRef, picture: HTMLImageElement): void {
  const board = new MaskBoard(picture);
  const size = h("input", { type: "range", min: "1", max: "200", value: String(board.brush), attrs: { "aria-label": "Brush size" } });
  const soft = h("input", { type: "range", min: "0", max: "100", value: "0", attrs: { "aria-label": "Softness" } });
  const eraser = h("button", { title: "Erase (E, or the right button)", attrs: { "aria-pressed": "false" } }, icon("eraser"), "Erase");
  const save = h("button", { class: "primary", id: "mask-save" }, icon("save"), "Use this mask");
  const tool = (text: string, title: string, action: () => void): HTMLElement => h("button", { title, textContent: text, onclick: action });
  const erase = (on: boolean): void => {
    board.erasing = on;
    eraser.setAttribute("aria-pressed", String(on));
  };
  const tools = h(
    "div",
    { class: "tools" },
    h("label", {}, "Brush", size),
    h("label", {}, "Softness", soft),
    eraser,
    tool("Undo", "Take back the last stroke (Ctrl+Z)", () => board.undo()),
    tool("Invert", "Mask what is not masked", () => board.invert()),
    tool("Clear", "Mask nothing", () => board.clear()),
    h("span", { class: "space" }),
    h("span", { class: "dim" }, "What is painted is drawn anew. Wheel: brush size."),
    save,
  );
  const dialog = openDialog({ name: "masks", title: `Mask of ${image.filename}`, onClose: () => board.stop() }, tools, board.element);
  board.start();
  board.onBrush = (brush) => (size.value = String(brush));
  size.oninput = () => board.setBrush(Number(size.value));
  soft.oninput = () => (board.softness = Number(soft.value) / 100);
  eraser.onclick = () => erase(!board.erasing);
  dialog.element.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z") board.undo();
    else if (key === "e") erase(!board.erasing);
    else if (key === "[") board.setBrush(board.brush / 1.2);
    else if (key === "]") board.setBrush(board.brush * 1.2);
    else return;
    event.preventDefault();
  });
  save.onclick = async () => {
    save.disabled = true;
    try {
      const stored = await api.uploadMask(await board.alpha(), maskName(image.filename), image);
      setPicture(node, stored);
      dialog.close();
      toast("good", "The picture carries the mask now.");
    } catch (error) {
      save.disabled = false;
      toast("error", `The mask was not stored: ${(error as Error).message}`);
    }
  };
}

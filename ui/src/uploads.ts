/** Pictures that nodes load: choosing, uploading and showing them. */

import type { IBaseWidget } from "./litegraph";
import { api, viewUrl, type ImageRef, type Stored } from "./api";
import type { ComfyNode } from "./nodes";
import { openLightbox } from "./ui/lightbox";
import { openMaskEditor } from "./ui/maskeditor";
import { toast } from "./ui/toasts";
import { assign } from "./widgets/assign";
import { ComboField } from "./widgets/combo";

/** The button beneath a combo of pictures. */
export function uploadButton(node: ComfyNode, name: string): IBaseWidget {
  return {
    name: `upload ${name}`,
    label: "choose a file…",
    type: "button",
    value: undefined,
    options: {},
    serialize: false,
    y: 0,
    callback: () => {
      const picker = document.createElement("input");
      picker.type = "file";
      picker.accept = "image/*";
      picker.onchange = () => {
        const file = picker.files?.[0];
        if (file) void uploadInto(node, name, file);
      };
      picker.click();
    },
  } as unknown as IBaseWidget;
}

/** Uploads a picture and selects it in the combo `name` of `node`. */
export async function uploadInto(node: ComfyNode, name: string, file: File): Promise<void> {
  const combo = node.field(name);
  if (!(combo instanceof ComboField)) return;
  try {
    setPicture(node, await api.uploadImage(file));
  } catch (error) {
    toast("error", `The upload failed: ${(error as Error).message}`);
  }
}

/** Makes a node load a picture that the gateway stores. */
export function setPicture(node: ComfyNode, stored: Stored): void {
  const name = uploadInput(node);
  const combo = name === undefined ? undefined : node.field(name);
  if (!(combo instanceof ComboField)) return;
  const value = stored.subfolder ? `${stored.subfolder}/${stored.name}` : stored.name;
  if (!combo.choices.includes(value)) combo.choices = [...combo.choices, value];
  assign(node, combo as IBaseWidget, value);
  showInputPicture(node);
}

/** The name of the input that picks an uploaded picture, if the node has one. */
export function uploadInput(node: ComfyNode): string | undefined {
  return node.spec?.inputs.find((i) => i.widget?.kind === "combo" && i.widget.upload === "image")
    ?.name;
}

/** The picture a node is set to load: `sub/cat.png` or `cat.png [output]`. */
export function inputPicture(node: ComfyNode): ImageRef | undefined {
  const name = uploadInput(node);
  const value = name === undefined ? undefined : node.field(name)?.value;
  if (typeof value !== "string" || value === "") return undefined;
  const [, path = value, type = "input"] = /^(.*) \[(input|output|temp)\]$/.exec(value) ?? [];
  const cut = path.lastIndexOf("/");
  return { filename: path.slice(cut + 1), subfolder: path.slice(0, Math.max(cut, 0)), type };
}

/** Opens the picture a node is set to load. */
export function viewInputPicture(node: ComfyNode): void {
  const image = inputPicture(node);
  if (image) openLightbox([{ url: viewUrl(image), title: image.filename, image }], 0);
}

/** Shows the picture a node is set to load. */
export function showInputPicture(node: ComfyNode): void {
  const image = inputPicture(node);
  if (!image) return;
  // A click is left to the double click that opens the mask editor.
  node.pictures.onOpen = undefined;
  node.pictures.onDoubleClick = () => openMaskEditor(node);
  node.pictures.show([viewUrl(image)]);
}

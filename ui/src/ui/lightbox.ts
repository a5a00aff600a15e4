/** One picture large, with zoom, what it was made from, and the way to the others. */

import { viewUrl, type ImageRef } from "../api";
import { asApiGraph, type ApiGraph } from "../apiformat";
import { parse } from "../bigjson";
import { h } from "../dom";
import { saveFile } from "../files";
import { icon } from "../icons";
import type { Picture } from "../jobpictures";
import { factsOf, type Fact } from "../metadata";
import { addPictures } from "../pictureinput";
import { pngText } from "../pngtext";
import { itemOf, openJobWorkflow } from "../serverflows";
import { openDialog } from "./dialog";
import { openJobPage } from "./jobpage";
import { toast } from "./toasts";
import { Zoomable } from "./zoomable";

/** The graph behind a picture: from the picture itself, else from its job. */
async function graphBehind(picture: Picture): Promise<ApiGraph | undefined> {
  const reply = await fetch(picture.url);
  if (reply.ok && (reply.headers.get("content-type") ?? "").includes("png")) {
    const text = pngText(new Uint8Array(await reply.arrayBuffer())).get("prompt");
    if (text !== undefined) return asApiGraph(parse(text));
  }
  const item = picture.jobId === undefined ? undefined : await itemOf(picture.jobId);
  return asApiGraph(item?.[2]);
}

async function blobOf(picture: Picture): Promise<File> {
  const reply = await fetch(picture.url);
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  const name = picture.image?.filename ?? "picture.png";
  const blob = await reply.blob();
  return new File([blob], name, { type: blob.type });
}

const facts = (list: Fact[]): HTMLElement =>
  h("dl", {}, ...list.flatMap(({ label, value }) => [h("dt", {}, label), h("dd", {}, value)]));

function button(name: Parameters<typeof icon>[0], text: string, action: () => void): HTMLElement {
  return h("button", { onclick: action }, icon(name), text);
}

/** What can be done with a picture. */
function actions(picture: Picture, close: () => void): HTMLElement {
  const { jobId } = picture;
  const whenRead = (use: (file: File) => void) => () =>
    void blobOf(picture).then(use, (error: Error) => toast("error", `The picture could not be read: ${error.message}`));
  return h(
    "div",
    { class: "buttons" },
    button("download", "Download", whenRead((file) => saveFile(file.name, file))),
    button("image", "Use as input", whenRead((file) => {
      close();
      void addPictures([file]);
    })),
    jobId !== undefined && button("graph", "Open workflow", () => {
      close();
      void openJobWorkflow(jobId);
    }),
    jobId !== undefined && button("info", "Job", () => openJobPage(jobId)),
  );
}

const whereIs = ({ filename, subfolder, type }: ImageRef): string => [type, subfolder, filename].filter(Boolean).join("/");

/** Shows one picture over the whole window; arrow keys go through the rest. */
export function openLightbox(all: readonly Picture[], start: number): void {
  let index = start;
  const image = h("img", { alt: "" });
  const prev = h("button", { class: "nav prev", attrs: { "aria-label": "Previous picture" } }, icon("left"));
  const next = h("button", { class: "nav next", attrs: { "aria-label": "Next picture" } }, icon("right"));
  const stage = h("div", { class: "stage" }, image, prev, next);
  const side = h("aside", { class: "facts" });
  const dialog = openDialog({ name: "lightbox", title: "Picture" }, stage, side);
  const zoom = new Zoomable(stage, image);
  const put = (): void => {
    const picture = all[index];
    if (!picture) return;
    zoom.reset();
    image.src = picture.image ? viewUrl(picture.image) : picture.url;
    image.alt = picture.title;
    prev.disabled = index === 0;
    next.disabled = index === all.length - 1;
    const heading = dialog.element.querySelector("h1");
    if (heading) heading.textContent = picture.title;
    const size: Fact[] = picture.image ? [{ label: "File", value: whereIs(picture.image) }] : [];
    side.replaceChildren(actions(picture, dialog.close), facts(size));
    void image.decode().then(() => {
      if (all[index] === picture) size.push({ label: "Size", value: `${image.naturalWidth} × ${image.naturalHeight}` });
    }, () => undefined).then(() => graphBehind(picture)).then((graph) => {
      if (all[index] === picture) side.replaceChildren(actions(picture, dialog.close), facts([...size, ...(graph ? factsOf(graph) : [])]));
    }).catch(() => side.append(h("p", { class: "dim" }, "How it was made could not be read.")));
  };
  const go = (by: number): void => {
    const wanted = Math.max(0, Math.min(index + by, all.length - 1));
    if (wanted === index) return;
    index = wanted;
    put();
  };
  prev.onclick = () => go(-1);
  next.onclick = () => go(1);
  dialog.element.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowRight") go(1);
    else if (key === "ArrowLeft") go(-1);
    else if (key === "+") zoom.zoom(1.25);
    else if (key === "-") zoom.zoom(0.8);
    else if (key === "0") zoom.reset();
    else if (key === "1") zoom.actualSize();
  });
  put();
}

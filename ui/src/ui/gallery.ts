/** The newest pictures, in the sidebar, and the preview of the one being made. */

import { store } from "../app";
import { byId, h } from "../dom";
import { icon } from "../icons";
import { allPictures, type Picture } from "../jobpictures";
import { openGallery } from "./gallerypage";
import { openLightbox } from "./lightbox";

const SHOWN = 13;

/** The preview of the running job, while there is one. */
function livePreview(): string | undefined {
  const job = store.paintedJob();
  if (job?.status !== "running") return undefined;
  for (const node of job.nodes.values()) if (node.preview) return node.preview;
  return undefined;
}

let shownKey = "";

function render(): void {
  const gallery = byId("gallery");
  const every = allPictures();
  const all = every.slice(0, SHOWN);
  const preview = livePreview();
  const live = gallery.querySelector<HTMLImageElement>(".live img");
  const key = `${preview ? "live" : ""}|${every.length}|${all.map(({ url }) => url).join("|")}`;
  if (key === shownKey) {
    if (live && preview) live.src = preview;
    return;
  }
  shownKey = key;
  const [first, ...rest] = all;
  const thumb = (picture: Picture, index: number, big: boolean): HTMLElement => {
    const image = h("img", { src: picture.url, alt: picture.title, loading: "lazy", decoding: "async" });
    const button = h("button", { class: big ? "result" : "thumb", title: picture.title }, image);
    button.onclick = () => openLightbox(every, index);
    return button;
  };
  const more = h("button", { class: "link", textContent: `All ${every.length} pictures` });
  more.onclick = () => openGallery();
  gallery.replaceChildren(
    h("h2", {}, "Results", h("span", { class: "space" }), every.length > 1 && more),
    preview ? h("div", { class: "live" }, h("img", { src: preview, alt: "Preview of the picture being made" })) : "",
    first && !preview ? thumb(first, 0, true) : "",
    first || preview ? "" : h("div", { class: "empty" }, icon("image"), "Pictures appear here when a job is done."),
    h("div", { class: "thumbs" }, ...(preview ? all : rest).map((picture, i) => thumb(picture, preview ? i : i + 1, false))),
  );
}

export function startGallery(): void {
  store.on("jobs", render);
  render();
}

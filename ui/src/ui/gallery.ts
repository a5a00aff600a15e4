/** The pictures of finished jobs, newest first. */

import { viewUrl, type JobOutput } from "../api";
import { store } from "../app";
import { byId, h } from "../dom";
import type { JobView } from "../jobs";

const SHOWN = 60;

interface Picture {
  url: string;
  title: string;
}

function pictureOf(job: JobView, output: JobOutput): Picture {
  return { url: viewUrl(output), title: `${output.filename} (job ${job.number})` };
}

function pictures(): Picture[] {
  const jobs = [...store.jobs.values()].filter(({ outputs }) => outputs.length > 0);
  jobs.sort((a, b) => (b.createdAtMs ?? 0) - (a.createdAtMs ?? 0) || b.number - a.number);
  const shown = jobs.flatMap((job) =>
    job.outputs.filter(({ type }) => type !== "input").map((output) => pictureOf(job, output)),
  );
  return shown.slice(0, SHOWN);
}

/** Shows one picture over the whole window; arrow keys go through the rest. */
export function openLightbox(all: Picture[], start: number): void {
  let index = start;
  const image = h("img", { alt: "" });
  const caption = h("a", { target: "_blank", rel: "noopener" });
  const box = h("div", { class: "lightbox", tabIndex: -1, attrs: { role: "dialog" } }, image, caption);
  const put = (): void => {
    const picture = all[index];
    if (!picture) return;
    image.src = picture.url;
    image.alt = picture.title;
    caption.href = picture.url;
    caption.textContent = picture.title;
  };
  box.onclick = (event) => {
    if (event.target !== caption) box.remove();
  };
  box.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Escape") return box.remove();
    if (event.key === "ArrowRight") index = Math.min(index + 1, all.length - 1);
    if (event.key === "ArrowLeft") index = Math.max(index - 1, 0);
    put();
  };
  put();
  document.body.append(box);
  box.focus();
}

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
  const all = pictures();
  const preview = livePreview();
  const live = gallery.querySelector<HTMLImageElement>(".live img");
  const key = `${preview ? "live" : ""}|${all.map(({ url }) => url).join("|")}`;
  if (key === shownKey) {
    if (live && preview) live.src = preview;
    return;
  }
  shownKey = key;
  const [first, ...rest] = all;
  const thumb = (picture: Picture, index: number, big: boolean): HTMLElement => {
    const image = h("img", { src: picture.url, alt: picture.title, loading: "lazy", decoding: "async" });
    const button = h("button", { class: big ? "result" : "thumb", title: picture.title }, image);
    button.onclick = () => openLightbox(all, index);
    return button;
  };
  gallery.replaceChildren(
    h("h2", {}, "Results"),
    preview ? h("div", { class: "live" }, h("img", { src: preview, alt: "Preview" })) : "",
    first && !preview ? thumb(first, 0, true) : "",
    first || preview ? "" : h("p", { class: "dim" }, "Pictures appear here when a job is done."),
    h(
      "div",
      { class: "thumbs" },
      ...(preview ? all : rest).map((picture, i) => thumb(picture, preview ? i : i + 1, false)),
    ),
  );
}

export function startGallery(): void {
  store.on("jobs", render);
  render();
}

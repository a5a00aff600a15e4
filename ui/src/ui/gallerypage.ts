/** The gallery: every picture on one page. */

import { api } from "../api";
import { store } from "../app";
import { h } from "../dom";
import { icon } from "../icons";
import { allPictures } from "../jobpictures";
import { openDialog } from "./dialog";
import { openLightbox } from "./lightbox";

const PAGE = 100;
/** How many jobs the page reads when it opens: with fewer there are no older ones. */
const JOBS_AT_START = 60;

export function openGallery(): void {
  const grid = h("div", { class: "gallery-grid" });
  const more = h("button", { textContent: "Show older ones" });
  const foot = h("div", { class: "buttons", style: "justify-content:center;margin-top:14px" }, more);
  const filter = h("input", { type: "search", placeholder: "Filter by name", attrs: { "aria-label": "Filter by name" } });
  const dialog = openDialog({ name: "gallery", title: "Gallery", actions: [filter] }, grid, foot);
  const render = (): void => {
    if (!grid.isConnected) return;
    const wanted = filter.value.toLowerCase();
    const pictures = allPictures().filter(({ title }) => title.toLowerCase().includes(wanted));
    grid.replaceChildren(
      ...pictures.map((picture, index) => {
        const image = h("img", { src: picture.url, alt: picture.title, loading: "lazy", decoding: "async" });
        const item = h("button", { class: "thumb" }, image, h("span", {}, picture.title));
        item.onclick = () => openLightbox(pictures, index);
        return item;
      }),
    );
    if (pictures.length === 0) grid.replaceChildren(h("div", { class: "empty" }, icon("image"), "No pictures yet."));
  };
  let seen = store.jobs.size;
  more.hidden = seen < JOBS_AT_START;
  more.onclick = async () => {
    const older = await api.jobs(PAGE, seen);
    seen += older.length;
    for (const job of older) store.snapshot(job);
    more.hidden = older.length < PAGE;
    render();
  };
  filter.oninput = render;
  const stop = store.on("jobs", render);
  dialog.element.addEventListener("close", stop);
  render();
}

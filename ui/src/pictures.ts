/** Puts previews and results of the painted job onto the nodes. */

import { viewUrl } from "./api";
import { editor, graph, store } from "./app";
import { ComfyNode } from "./nodes";
import { uploadInput } from "./uploads";
import { everyNode, pathId } from "./subgraphs";
import { openLightbox } from "./ui/lightbox";

const previewing = new WeakSet<ComfyNode>();

/** `anew`: the node stands for another one than before, so nothing of that may stay. */
function update(node: ComfyNode, anew: boolean): void {
  const state = store.paintedJob()?.nodes.get(pathId(node));
  if (anew || (state && state.texts.length > 0)) node.texts.show(state?.texts ?? []);
  if (state?.preview) {
    previewing.add(node);
    node.pictures.show([state.preview]);
    return;
  }
  if (state && state.images.length > 0) {
    const jobId = store.paintedJob()?.id;
    const all = state.images.map((image) => ({ url: viewUrl(image), title: image.filename, image, jobId }));
    node.pictures.onOpen = (index) => openLightbox(all, index);
    node.pictures.show(all.map(({ url }) => url));
    previewing.delete(node);
    return;
  }
  // Results of the last run stay until new ones replace them; previews go at once.
  if ((previewing.delete(node) || anew) && uploadInput(node) === undefined) node.pictures.show([]);
}

export function startPictures(): void {
  store.on("jobs", () => {
    for (const node of everyNode()) if (node instanceof ComfyNode) update(node, false);
    graph.setDirtyCanvas(true, false);
  });
  const canvas = editor();
  // Each use of a subgraph has results of its own, for the same nodes.
  canvas.canvas.addEventListener("litegraph:set-graph", () => {
    if ((canvas.graph as unknown) === graph) return;
    for (const node of canvas.graph?.nodes ?? []) if (node instanceof ComfyNode) update(node, true);
  });
}

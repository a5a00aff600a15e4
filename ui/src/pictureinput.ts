/** Pictures from outside: dropped, pasted or picked ones become inputs of the graph. */

import { LiteGraph } from "@comfyorg/litegraph";
import { editor, store } from "./app";
import { ComfyNode } from "./nodes";
import { uploadInput, uploadInto } from "./uploads";
import { toast } from "./ui/toasts";
import { freeArea, toGraph } from "./view";

/** The one selected node that takes a picture, if there is one. */
function selectedLoader(): ComfyNode | undefined {
  const nodes = Object.values(editor().selected_nodes);
  const [node] = nodes;
  return nodes.length === 1 && node instanceof ComfyNode && uploadInput(node) !== undefined ? node : undefined;
}

/** The first node kind on offer that is nothing but a picture to upload. */
function loaderType(): string | undefined {
  const loads = [...store.specs.values()].filter(
    (spec) =>
      spec.outputs.some(({ type }) => type === "IMAGE") &&
      spec.inputs.some(({ widget }) => widget?.kind === "combo" && widget.upload === "image"),
  );
  return (loads.find(({ class: type }) => type === "LoadImage") ?? loads[0])?.class;
}

function newLoader(at: [number, number]): ComfyNode | undefined {
  const type = loaderType();
  const node = type === undefined ? null : LiteGraph.createNode(type);
  if (!(node instanceof ComfyNode)) return undefined;
  node.pos = at;
  editor().graph?.add(node);
  editor().selectNode(node);
  return node;
}

/** Uploads pictures: into the node under the pointer or the selected one, else into new ones. */
export async function addPictures(files: File[], at?: [number, number]): Promise<void> {
  const area = freeArea();
  const [x, y] = at ?? toGraph(area.x + area.width / 2, area.y + area.height / 3);
  const under = at && editor().graph?.getNodeOnPos(x, y);
  let known = under instanceof ComfyNode && uploadInput(under) !== undefined ? under : at ? undefined : selectedLoader();
  let shift = 0;
  for (const file of files) {
    const node = known ?? newLoader([x + shift, y + shift]);
    known = undefined;
    shift += 40;
    const input = node && uploadInput(node);
    if (!node || input === undefined) return toast("error", "No node on offer takes a picture.");
    await uploadInto(node, input, file);
  }
  store.emit("graph");
  store.emit("selection");
}

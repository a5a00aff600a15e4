/** Workflows as files: reading, sharing, and pictures dropped or pasted onto the page. */

import { api } from "./api";
import { graph, store } from "./app";
import { parse, stringify } from "./bigjson";
import { pngText } from "./pngtext";
import { addPictures } from "./pictureinput";
import { session } from "./session";
import { fitView } from "./view";
import { show } from "./workflow";
import { toast } from "./ui/toasts";

/** Hands a file to the browser to keep. */
export function saveFile(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const json = (value: unknown): Blob => new Blob([stringify(value, 2)], { type: "application/json" });

export function download(): void {
  saveFile(`${session.name ?? "workflow"}.json`, json(graph.serialize()));
}

/** The graph as `/prompt` takes it, for scripts. */
export async function downloadApi(): Promise<void> {
  try {
    saveFile(`${session.name ?? "workflow"}_api.json`, json(await api.convert(graph.serialize())));
  } catch (error) {
    toast("error", `The workflow could not be converted: ${(error as Error).message}`);
  }
}

const isPicture = (file: File): boolean => file.type.startsWith("image/") || /\.(png|jpe?g|webp)$/i.test(file.name);

/** The workflow that a PNG carries, if it does. */
async function embedded(file: File): Promise<unknown> {
  const chunks = pngText(new Uint8Array(await file.arrayBuffer()));
  const text = chunks.get("workflow") ?? chunks.get("prompt");
  return text === undefined ? undefined : parse(text);
}

/** Opens a workflow file; a picture that carries none becomes an input of the graph. */
export async function openFile(file: File, at?: [number, number]): Promise<void> {
  try {
    const workflow = isPicture(file) ? await embedded(file) : parse(await file.text());
    if (workflow === undefined) return await addPictures([file], at);
    show(workflow);
    session.opened(undefined);
    store.forgetOwn();
    fitView();
    toast("good", `Loaded ${file.name}.`);
  } catch (error) {
    toast("error", `${file.name} was not loaded: ${(error as Error).message}`);
  }
}

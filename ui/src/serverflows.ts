/** Workflows kept on the server, where ComfyUI keeps them too: `/userdata/workflows`. */

import { api, ApiError, post, request, type QueueItem } from "./api";
import { graph, store } from "./app";
import { parse } from "./bigjson";
import { session } from "./session";
import { capture } from "./undo";
import { ask, askText } from "./ui/dialog";
import { toast } from "./ui/toasts";
import { fitView } from "./view";
import { show } from "./workflow";

export interface SavedFlow {
  name: string;
  modifiedMs: number;
}

const FOLDER = "workflows/";
const address = (name: string): string => `/userdata/${encodeURIComponent(`${FOLDER}${name}.json`)}`;

/** The saved workflows, newest first. */
export async function listSaved(): Promise<SavedFlow[]> {
  // The folder itself may not exist yet; what is above it always does.
  const files = await request<{ path: string; modified: number }[]>("/userdata?dir=.&recurse=true&full_info=true");
  const flows = files.flatMap(({ path, modified }) =>
    path.startsWith(FOLDER) && path.endsWith(".json")
      ? [{ name: path.slice(FOLDER.length, -".json".length), modifiedMs: modified * 1000 }]
      : [],
  );
  return flows.sort((a, b) => b.modifiedMs - a.modifiedMs);
}

/** A name that is a path inside the folder and nothing else. */
function cleaned(name: string): string {
  return name.replace(/\.json$/i, "").split("/").map((part) => part.trim()).filter((part) => part !== "" && !/^\.+$/.test(part)).join("/");
}

async function write(name: string, overwrite: boolean): Promise<boolean> {
  try {
    await request(`${address(name)}?overwrite=${overwrite}`, post(graph.serialize()));
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 409) {
      return (await ask(`“${name}” exists already. Replace it?`, "Replace")) && write(name, true);
    }
    throw error;
  }
}

/** Saves under the name the workflow has, or asks for one. */
export async function saveOnServer(asNew = false): Promise<void> {
  const known = asNew ? undefined : session.name;
  const typed = known ?? (await askText("Save the workflow as", session.name ?? "My workflow", "Save"));
  const name = typed && cleaned(typed);
  if (!name) return;
  try {
    capture();
    if (!(await write(name, known !== undefined))) return;
    session.stored(name);
    toast("good", `Saved ${name}.`);
  } catch (error) {
    toast("error", `The workflow was not saved: ${(error as Error).message}`);
  }
}

/** Whether what is on the canvas may go. */
export async function mayLeave(): Promise<boolean> {
  return !session.dirty || ask("The workflow has changes that are not saved. Replace it?", "Replace");
}

/** Puts a workflow on the canvas, under a name if it is a saved one. */
export function present(workflow: unknown, name?: string): void {
  show(workflow);
  session.opened(name);
  store.forgetOwn();
  fitView();
}

export async function openSaved(name: string): Promise<void> {
  if (!(await mayLeave())) return;
  try {
    present(parse(await fetchText(address(name))), name);
  } catch (error) {
    toast("error", `${name} was not opened: ${(error as Error).message}`);
  }
}

async function fetchText(path: string): Promise<string> {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  return reply.text();
}

export async function removeSaved(name: string): Promise<void> {
  if (!(await ask(`Delete “${name}” from the server?`, "Delete"))) return;
  try {
    await request(address(name), { method: "DELETE" });
    if (session.name === name) session.renamed(undefined);
    else store.emit("workflow");
  } catch (error) {
    toast("error", `${name} was not deleted: ${(error as Error).message}`);
  }
}

export async function renameSaved(name: string): Promise<void> {
  const typed = await askText("Rename to", name, "Rename");
  const next = typed && cleaned(typed);
  if (!next || next === name) return;
  try {
    const target = encodeURIComponent(`${FOLDER}${next}.json`);
    await request(`${address(name)}/move/${target}?overwrite=false`, { method: "POST" });
    if (session.name === name) session.renamed(next);
    else store.emit("workflow");
  } catch (error) {
    toast("error", `${name} was not renamed: ${(error as Error).message}`);
  }
}

/** The workflow that a job ran: as drawn where it was handed in drawn, else its graph. */
export async function workflowOf(jobId: string): Promise<unknown> {
  const found = await itemOf(jobId);
  if (!found) throw new Error("the server has no graph of it");
  return found[3].extra_pnginfo?.workflow ?? found[2];
}

async function queued(jobId: string): Promise<QueueItem | undefined> {
  const { queue_running, queue_pending } = await api.queue();
  return [...queue_running, ...queue_pending].find(([, id]) => id === jobId);
}

/** The queue item of a job, ended or not. */
export async function itemOf(jobId: string): Promise<QueueItem | undefined> {
  return (await api.history(jobId)) ?? (await queued(jobId));
}

export async function openJobWorkflow(jobId: string): Promise<void> {
  if (!(await mayLeave())) return;
  try {
    present(await workflowOf(jobId));
    store.adopt(jobId);
    toast("good", "The job's workflow is on the canvas.");
  } catch (error) {
    toast("error", `The workflow was not opened: ${(error as Error).message}`);
  }
}

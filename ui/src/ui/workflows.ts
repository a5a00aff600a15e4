/** Workflows: kept on the server, in files, and examples to begin with. */

import { store } from "../app";
import { parse } from "../bigjson";
import { byId, h } from "../dom";
import { download, downloadApi } from "../files";
import { icon, type IconName } from "../icons";
import { when } from "../jobnames";
import { listSaved, mayLeave, openSaved, present, removeSaved, renameSaved, saveOnServer, type SavedFlow } from "../serverflows";
import { session } from "../session";
import { showDefault } from "../workflow";
import { toast } from "./toasts";

interface Example {
  file: string;
  title: string;
  about: string;
  /** Node classes it is made of; it is offered only where all of them are. */
  needs: string[];
}

let examples: Example[] | undefined;
let saved: SavedFlow[] = [];

async function readExamples(): Promise<Example[]> {
  const reply = await fetch("workflows/examples/index.json");
  if (!reply.ok) throw new Error(`the examples are missing (HTTP ${reply.status})`);
  return (await reply.json()) as Example[];
}

async function openExample(example: Example): Promise<void> {
  if (!(await mayLeave())) return;
  try {
    const reply = await fetch(`workflows/examples/${example.file}`);
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    present(parse(await reply.text()));
    toast("good", `${example.title} is on the canvas.`);
  } catch (error) {
    toast("error", `The example was not opened: ${(error as Error).message}`);
  }
}

async function openDefault(): Promise<void> {
  if (!(await mayLeave())) return;
  store.forgetOwn();
  showDefault().catch((error: Error) => toast("error", error.message));
}

function button(id: string, name: IconName, text: string, action: () => void, title = text): HTMLElement {
  return h("button", { id, title, onclick: action }, icon(name), text);
}

function savedEntry(flow: SavedFlow): HTMLElement {
  const open = h("button", { class: "what", title: `Open ${flow.name}` }, flow.name, h("small", {}, when(flow.modifiedMs)));
  open.onclick = () => void openSaved(flow.name);
  const small = (name: IconName, label: string, action: () => void): HTMLElement =>
    h("button", { class: "ghost", title: label, onclick: action, attrs: { "aria-label": `${label} ${flow.name}` } }, icon(name));
  return h(
    "li",
    { class: flow.name === session.name ? "file current" : "file" },
    open,
    small("brush", "Rename", () => void renameSaved(flow.name)),
    small("trash", "Delete", () => void removeSaved(flow.name)),
  );
}

function exampleEntry(example: Example): HTMLElement {
  const item = h("button", { class: "example" }, h("b", {}, example.title), h("span", {}, example.about));
  item.onclick = () => void openExample(example);
  return h("li", {}, item);
}

function render(): void {
  const panel = byId("workflows");
  if (panel.hidden) return;
  const offered = (examples ?? []).filter(({ needs }) => needs.every((type) => store.specs.has(type)));
  const body = h(
    "div",
    { class: "scroll" },
    h("h2", {}, "This workflow"),
    h(
      "div",
      { class: "buttons", style: "justify-content:flex-start;margin-bottom:14px" },
      button("save-server", "save", "Save", () => void saveOnServer(), "Save on the server (Ctrl+S)"),
      button("save-as", "save", "Save as…", () => void saveOnServer(true), "Save on the server under another name"),
      button("open", "open", "Open file…", () => byId("file").click(), "Open a workflow file (Ctrl+O), or drop one on the page"),
      button("save", "download", "To a file", download, "Share as a file (Ctrl+Shift+S)"),
      button("save-api", "download", "API format", () => void downloadApi(), "The graph as scripts hand it in"),
      button("reset", "nodes", "Default", () => void openDefault(), "Start again from the default workflow"),
    ),
    h("h2", {}, "Saved on the server"),
    saved.length > 0
      ? h("ul", { class: "list", attrs: { "aria-label": "Saved workflows" } }, ...saved.map(savedEntry))
      : h("p", { class: "dim" }, "Nothing saved yet. Ctrl+S saves the workflow on the canvas."),
    h("h2", {}, "Examples"),
    h("ul", { class: "list", attrs: { "aria-label": "Examples" } }, ...offered.map(exampleEntry)),
  );
  panel.replaceChildren(body);
}

async function reload(): Promise<void> {
  if (byId("workflows").hidden) return;
  try {
    [saved, examples] = await Promise.all([listSaved(), examples ?? readExamples()]);
  } catch (error) {
    toast("error", `The workflows could not be listed: ${(error as Error).message}`);
  }
  render();
}

export function startWorkflows(): void {
  byId("workflows").addEventListener("dock", () => {
    render();
    void reload();
  });
  let shown = "";
  store.on("workflow", () => {
    // Saving and renaming change the list; editing does not.
    const key = `${session.name}|${session.dirty}`;
    if (key !== shown) void reload();
    shown = key;
  });
  store.on("catalog", render);
}

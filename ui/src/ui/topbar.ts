/** The bar at the top: run, cancel, queue, checkpoint, files, connection. */

import type { LGraphNode } from "@comfyorg/litegraph";
import { store } from "../app";
import { byId, fileSize, h } from "../dom";
import { ComfyNode } from "../nodes";
import { openFile } from "../files";
import { SHORTCUTS } from "../keys";
import { cancel, runBatch } from "../runner";
import { everyNode } from "../subgraphs";
import { session } from "../session";
import { nextScheme } from "../theme";
import { canRedo, canUndo, redo, undo } from "../undo";
import { fitView } from "../view";
import { arrange } from "../arrange";
import { assign } from "../widgets/assign";
import { ComboField } from "../widgets/combo";
import { toggleDock } from "./docks";
import { openGallery } from "./gallerypage";
import { share } from "./progress";
import { openServices } from "./services";
import { showShortcuts } from "./shortcuts";
import { toast } from "./toasts";

interface Loader {
  node: LGraphNode;
  combo: ComboField;
}

/** The nodes of the workflow that choose a checkpoint. */
function loaders(): Loader[] {
  return everyNode().flatMap((node) => {
    if (!(node instanceof ComfyNode)) return [];
    const input = node.spec?.inputs.find(
      ({ widget }) => widget?.kind === "combo" && widget.folder === "checkpoints",
    );
    const combo = input && node.field(input.name);
    return combo instanceof ComboField ? [{ node, combo }] : [];
  });
}

function renderCheckpoints(): void {
  const select = byId<HTMLSelectElement>("checkpoint");
  const [first] = loaders();
  select.disabled = !first;
  const names = first?.combo.choices ?? [];
  const current = String(first?.combo.value ?? "");
  const known = new Map(store.checkpoints.map((checkpoint) => [checkpoint.name, checkpoint]));
  const options = names.map((name) => {
    const about = known.get(name);
    const notes = [about?.family, fileSize(about?.bytes)].filter((note) => note);
    const label = notes.length > 0 ? `${name}  (${notes.join(", ")})` : name;
    return h("option", { value: name, textContent: label, selected: name === current });
  });
  // Files that are there but cannot be used are listed with the reason.
  for (const { name, usable, reason } of store.checkpoints) {
    if (usable || names.includes(name)) continue;
    options.push(
      h("option", { value: name, textContent: `${name}  (${reason ?? "not usable"})`, disabled: true }),
    );
  }
  if (!names.includes(current)) {
    const label = current === "" ? "none" : `${current} (missing)`;
    options.unshift(h("option", { value: current, textContent: first ? label : "no loader", selected: true }));
  }
  select.replaceChildren(...options);
}

function renderQueue(): void {
  const { running, queued } = store.queueSize();
  const parts = [running > 0 && `${running} running`, queued > 0 && `${queued} waiting`];
  const queue = byId("queue");
  queue.textContent = parts.filter(Boolean).join(", ") || "idle";
  queue.classList.toggle("busy", running + queued > 0);
  byId<HTMLButtonElement>("cancel").disabled = !store.cancellable();
}

const STATE_TEXT = { connecting: "connecting", open: "connected", lost: "connection lost" } as const;

function renderConnection(): void {
  const element = byId("connection");
  element.dataset.state = store.connection;
  element.textContent = STATE_TEXT[store.connection];
  const down = (store.system?.services ?? []).filter(({ status }) => status !== "serving");
  const services = (store.system?.services ?? []).map(({ name, status }) => `${name}: ${status}`);
  element.title = [store.system?.version && `version ${store.system.version}`, ...services]
    .filter(Boolean)
    .join("\n");
  if (store.connection === "open" && down.length > 0) {
    element.dataset.state = "partly";
    element.textContent = `${down.map(({ name }) => name).join(", ")} not serving`;
  }
}

function renderWorkflow(): void {
  byId("workflow-title").textContent = session.name ?? "Untitled";
  byId("dirty").hidden = !session.dirty;
  byId<HTMLButtonElement>("undo").disabled = !canUndo();
  byId<HTMLButtonElement>("redo").disabled = !canRedo();
  renderTitle();
}

/** The tab says how far the job is, for whoever looks at another one. */
function renderTitle(): void {
  const job = store.paintedJob();
  const far = job?.status === "running" ? `${Math.round(share(job) * 100)} % · ` : "";
  document.title = `${far}${session.dirty ? "• " : ""}${session.name ?? "Comfy Services"}`;
}

/** What the buttons of the bar and the rail do. */
function bindButtons(refresh: () => Promise<void>): void {
  const actions: Record<string, () => void> = {
    run: () => void runBatch(),
    cancel: () => void cancel(),
    undo, redo, fit: fitView, arrange,
    "workflow-name": () => toggleDock("workflows"),
    queue: () => toggleDock("queue-panel"),
    "open-gallery": () => openGallery(),
    help: () => showShortcuts(SHORTCUTS),
    connection: openServices,
    theme: () => toast("info", `Colours: ${nextScheme()}.`),
    refresh: () => void refresh().then(() => toast("info", "Nodes and checkpoints were read again.")),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).onclick = action;
}

export function startTopbar(refresh: () => Promise<void>): void {
  bindButtons(refresh);
  const file = byId<HTMLInputElement>("file");
  file.onchange = () => {
    const picked = file.files?.[0];
    file.value = "";
    if (picked) void openFile(picked);
  };
  byId<HTMLSelectElement>("checkpoint").onchange = (event) => {
    const { value } = event.target as HTMLSelectElement;
    for (const { node, combo } of loaders()) assign(node, combo, value);
  };
  store.on("catalog", renderCheckpoints);
  store.on("graph", renderCheckpoints);
  store.on("jobs", renderQueue);
  store.on("jobs", renderTitle);
  store.on("connection", renderConnection);
  store.on("workflow", renderWorkflow);
  renderConnection();
  renderWorkflow();
}

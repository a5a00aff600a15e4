/** The bar at the top: run, cancel, queue, checkpoint, files, connection. */

import type { LGraphNode } from "@comfyorg/litegraph";
import { graph, store } from "../app";
import { byId, fileSize, h } from "../dom";
import { ComfyNode } from "../nodes";
import { cancel, run } from "../runner";
import { assign } from "../widgets/assign";
import { ComboField } from "../widgets/combo";
import { download, fitView, openFile, showDefault } from "../workflow";
import { toast } from "./toasts";

interface Loader {
  node: LGraphNode;
  combo: ComboField;
}

/** The nodes of the workflow that choose a checkpoint. */
function loaders(): Loader[] {
  return graph.nodes.flatMap((node) => {
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

export function startTopbar(refresh: () => Promise<void>): void {
  byId("run").onclick = () => void run();
  byId("cancel").onclick = () => void cancel();
  byId("save").onclick = download;
  byId("fit").onclick = fitView;
  byId("open").onclick = () => byId<HTMLInputElement>("file").click();
  byId("refresh").onclick = () =>
    void refresh().then(() => toast("info", "Nodes and checkpoints were read again."));
  byId("reset").onclick = () => {
    if (!window.confirm("Replace the workflow on the canvas with the default one?")) return;
    store.forgetOwn();
    showDefault().catch((error: Error) => toast("error", error.message));
  };
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
  store.on("connection", renderConnection);
  renderConnection();
}

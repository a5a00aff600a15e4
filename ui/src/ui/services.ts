/** The state of the stack in plain words: which services run, which models are there, what to do next. */

import { store } from "../app";
import { byId, fileSize, h } from "../dom";
import { openDialog } from "./dialog";

export interface Advice {
  level: "warn" | "info";
  lines: string[];
}

/** What a person should know or do before Run can work; `undefined` when all is well. */
export function advice(): Advice | undefined {
  const down = (store.system?.services ?? []).filter(({ status }) => status !== "serving");
  if (down.length > 0) {
    const names = down.map(({ name, address }) => (address ? `${name} (${address})` : name)).join(", ");
    return { level: "warn", lines: [`Not running: ${names}.`, "Start it again; the page notices by itself. Jobs that were handed in wait meanwhile."] };
  }
  const usable = store.checkpoints.filter((checkpoint) => checkpoint.usable);
  if (store.specs.size > 0 && usable.length === 0) {
    const refused = store.checkpoints.map(({ name, reason }) => `${name}: ${reason ?? "not usable"}`);
    return {
      level: "warn",
      lines: [
        "There is no checkpoint yet, so nothing can be drawn.",
        "Put a Stable Diffusion file (.safetensors or .ckpt) into models/checkpoints, then press R.",
        ...refused,
      ],
    };
  }
  return undefined;
}

function models(): Node[] {
  const rows = store.checkpoints.map(({ name, bytes, family, usable, reason }) =>
    h("div", { class: "service" }, h("i", { class: "dot", data: { status: usable ? "completed" : "failed" } }),
      h("span", { style: "grid-column:2 / -1" }, name, h("span", { class: "dim" }, `  ${[family, fileSize(bytes), reason].filter(Boolean).join(", ")}`))),
  );
  return rows.length > 0 ? rows : [h("p", { class: "dim" }, "None. They go into models/checkpoints.")];
}

export function openServices(): void {
  const dialog = openDialog({ name: "services", title: "State of the services" });
  const render = (): void => {
    const services = (store.system?.services ?? []).map(({ name, status, address, detail }) =>
      h("div", { class: "service" }, h("i", { class: "dot", data: { status: status === "serving" ? "completed" : "failed" } }),
        h("b", {}, name), h("span", { class: "dim" }, [status.replace("_", " "), address, detail].filter(Boolean).join(" · "))),
    );
    const told = advice();
    dialog.body.replaceChildren(
      told ? h("div", { class: "advice" }, ...told.lines.map((line) => h("p", {}, line))) : h("p", {}, "Everything runs."),
      h("h3", {}, `Services${store.system?.version ? ` (version ${store.system.version})` : ""}`),
      ...services,
      h("h3", {}, "Checkpoints"),
      ...models(),
      h("p", { class: "dim", style: "margin-top:10px" }, `${store.specs.size} kinds of nodes on offer.`),
    );
  };
  const stops = [store.on("connection", render), store.on("catalog", render)];
  dialog.element.addEventListener("close", () => stops.forEach((stop) => stop()));
  render();
}

const SEEN = "comfy.noticeSeen";

function seen(): string | undefined {
  try {
    return localStorage.getItem(SEEN) ?? undefined;
  } catch {
    return undefined;
  }
}

function close(text: string): void {
  byId("notice").hidden = true;
  try {
    localStorage.setItem(SEEN, text);
  } catch {
    // Without storage the notice simply comes back.
  }
}

/** The words of the notice: what stands in the way, else what a first visitor should know. */
function notice(): Advice | undefined {
  const told = advice();
  if (told) return told;
  if (!store.note) return undefined;
  return { level: "info", lines: ["Everything is ready: press Run.", store.note] };
}

/** Keeps the notice in the corner true; one that was read does not come back. */
export function startNotice(): void {
  const render = (): void => {
    const told = notice();
    const box = byId("notice");
    const text = told?.lines.join("\n") ?? "";
    // What stands in the way is told again at every visit.
    if (!told || (told.level === "info" && seen() === text)) {
      box.hidden = true;
      return;
    }
    if (!box.hidden && box.dataset.text === text) return;
    const button = h("button", { class: told.level === "info" ? "primary" : "", textContent: told.level === "info" ? "Got it" : "Details" });
    button.onclick = () => (told.level === "info" ? close(text) : openServices());
    box.dataset.level = told.level;
    box.dataset.text = text;
    box.replaceChildren(h("div", {}, ...told.lines.map((line) => h("p", {}, line))), button);
    box.hidden = false;
  };
  store.on("catalog", render);
  store.on("connection", render);
  // Who has run something knows how.
  store.on("jobs", () => {
    const box = byId("notice");
    if (!box.hidden && box.dataset.level === "info" && store.ownIds().length > 0) close(box.dataset.text ?? "");
  });
  render();
}

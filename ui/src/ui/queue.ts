/** The queue and the history: what runs, what waits, what was made. */

import { api } from "../api";
import { store } from "../app";
import { byId, h } from "../dom";
import { icon, type IconName } from "../icons";
import { jobName, took, when } from "../jobnames";
import { isTerminal, type JobView } from "../jobs";
import { newestFirst, picturesOf } from "../jobpictures";
import { moveJob, neighbour, removeJobs, waiting as waitingJobs } from "../queueorder";
import { openJobWorkflow } from "../serverflows";
import { ask } from "./dialog";
import { openJobPage } from "./jobpage";
import { openLightbox } from "./lightbox";
import { share } from "./progress";
import { toast } from "./toasts";

const HISTORY_SHOWN = 40;

function act(name: IconName, label: string, action: () => void): HTMLButtonElement {
  const button = h("button", { class: "ghost", title: label, attrs: { "aria-label": label } }, icon(name));
  button.onclick = action;
  return button;
}

const fail = (what: string) => (error: Error) => toast("error", `${what}: ${error.message}`);

async function cancelJob(id: string): Promise<void> {
  store.snapshot(await api.cancel(id));
}

function described(job: JobView): string {
  if (job.status === "running") return `${job.nodesDone} of ${job.nodesTotal} nodes done`;
  if (job.status === "queued") return `waiting since ${when(job.createdAtMs)}`;
  if (job.status === "failed") return job.error?.message ?? "failed";
  const count = picturesOf(job).length;
  return [when(job.finishedAtMs), took(job), count > 1 && `${count} pictures`, job.status === "cancelled" && "cancelled"].filter(Boolean).join(" · ");
}

function entry(job: JobView, ...actions: HTMLElement[]): HTMLElement {
  const pictures = picturesOf(job);
  const [first] = pictures;
  const preview = [...job.nodes.values()].find((node) => node.preview)?.preview;
  const src = preview ?? first?.url;
  const picture = h("button", { class: "pic", attrs: { "aria-label": `Pictures of ${jobName(job)}` }, disabled: !first },
    src === undefined ? icon("image") : h("img", { src, alt: "", loading: "lazy", decoding: "async" }));
  picture.onclick = () => openLightbox(pictures, 0);
  const what = h(
    "button",
    { class: "what", title: "Times, cache, seeds and graph of this job" },
    h("b", {}, h("i", { class: "dot", data: { status: job.status } }), jobName(job)),
    h("span", {}, described(job)),
  );
  what.onclick = () => openJobPage(job.id);
  const bar = job.status === "running" && h("progress", { max: 1, value: share(job), attrs: { "aria-label": `Progress of ${jobName(job)}` } });
  return h("li", { class: "job", data: { job: job.id, status: job.status } }, picture, what, h("div", { class: "acts" }, ...actions), bar);
}

function runningEntry(job: JobView): HTMLElement {
  return entry(job, act("stop", "Cancel this job", () => void cancelJob(job.id).catch(fail("The job was not cancelled"))));
}

function waitingEntry(job: JobView, index: number, all: JobView[]): HTMLElement {
  const ids = all.map(({ id }) => id);
  const to = (place: number) => () => void moveJob(job.id, neighbour(ids, job.id, place));
  const remove = act("close", "Take out of the queue", () => void removeJobs([job.id]));
  const move = (name: IconName, label: string, place: number, can: boolean): HTMLElement => {
    const button = act(name, label, to(place));
    button.disabled = !can;
    return button;
  };
  // Always in the same places, so that what one presses again does the same again.
  const moves = [move("top", "Run next", 0, index > 1), remove, move("up", "Move up", index - 1, index > 0), move("down", "Move down", index + 1, index < all.length - 1)];
  const item = entry(job, ...(all.length > 1 ? moves : [remove]));
  if (all.length > 1) letDrag(item, job.id, ids);
  return item;
}

/** What is being dragged in the list of waiting jobs. */
let dragged: string | undefined;

/** Lets an entry be dragged to another place: dropped on the upper half of an entry it goes before that, else behind. */
function letDrag(item: HTMLElement, id: string, ids: string[]): void {
  item.draggable = true;
  item.title = "Drag to change the order";
  const half = ({ clientY }: DragEvent): "before" | "behind" => {
    const { top, height } = item.getBoundingClientRect();
    return clientY < top + height / 2 ? "before" : "behind";
  };
  const mark = (where?: string): void => {
    if (where) item.dataset.drop = where;
    else delete item.dataset.drop;
  };
  item.ondragstart = (event) => {
    dragged = id;
    event.dataTransfer?.setData("text/plain", id);
    item.classList.add("dragged");
  };
  item.ondragend = () => {
    dragged = undefined;
    item.classList.remove("dragged");
    render();
  };
  item.ondragover = (event) => {
    if (dragged === undefined || dragged === id) return;
    event.preventDefault();
    mark(half(event));
  };
  item.ondragleave = () => mark();
  item.ondrop = (event) => {
    mark();
    if (dragged === undefined || dragged === id) return;
    event.preventDefault();
    const place = ids.filter((other) => other !== dragged).indexOf(id) + (half(event) === "before" ? 0 : 1);
    void moveJob(dragged, neighbour(ids, dragged, place));
  };
}

function endedEntry(job: JobView): HTMLElement {
  const forget = async (): Promise<void> => {
    await api.forget(job.id);
    store.forget(job.id);
  };
  return entry(
    job,
    act("graph", "Open its workflow", () => void openJobWorkflow(job.id)),
    act("trash", "Remove from the history", () => void forget().catch(fail("The job was not removed"))),
  );
}

function section(title: string, jobs: HTMLElement[], empty: string, ...actions: (HTMLElement | false)[]): Node[] {
  return [
    h("h2", {}, title, h("span", { class: "space" }), ...actions),
    jobs.length > 0 ? h("ul", { class: "list", attrs: { "aria-label": title } }, ...jobs) : h("p", { class: "dim" }, empty),
  ];
}

async function clearHistory(): Promise<void> {
  if (!(await ask("Remove every ended job from the history? The pictures stay.", "Remove"))) return;
  await api.clearHistory();
  for (const job of [...store.jobs.values()]) if (isTerminal(job.status)) store.forget(job.id);
}

function textButton(label: string, action: () => void): HTMLElement {
  return h("button", { class: "link", textContent: label, onclick: action });
}

/** What the list shows, so that it is not rebuilt under the pointer for nothing. */
let shownKey: string | undefined;

function render(): void {
  const panel = byId("queue-panel");
  if (panel.hidden) return;
  const jobs = [...store.jobs.values()];
  if (dragged !== undefined) return updateLive(panel);
  const key = jobs.map((job) => `${job.id}${job.ordinal}${job.status}${job.number}${job.nodesDone}${job.outputs.length}${job.finishedAtMs}`).join();
  if (key === shownKey) return updateLive(panel);
  shownKey = key;
  const running = jobs.filter(({ status }) => status === "running");
  const waiting = waitingJobs();
  const ended = newestFirst(jobs.filter(({ status }) => isTerminal(status))).slice(0, HISTORY_SHOWN);
  const focus = focusKey(panel);
  const body = h(
    "div",
    { class: "scroll" },
    ...section("Running", running.map(runningEntry), "Nothing runs."),
    ...section("Waiting", waiting.map(waitingEntry), "Nothing waits.", waiting.length > 1 && textButton("Remove all", () => void removeJobs(waiting.map(({ id }) => id)))),
    ...section("History", ended.map(endedEntry), "Jobs that ended are kept here.", ended.length > 0 && textButton("Clear", () => void clearHistory().catch(fail("The history was not cleared")))),
  );
  const at = panel.querySelector(".scroll")?.scrollTop ?? 0;
  panel.replaceChildren(body);
  body.scrollTop = at;
  if (focus) panel.querySelector<HTMLElement>(focus)?.focus();
}

/** The focused control, as a selector that finds it again in the new list. */
function focusKey(panel: HTMLElement): string | undefined {
  const active = document.activeElement;
  if (!(active instanceof HTMLElement) || !panel.contains(active)) return undefined;
  const job = active.closest<HTMLElement>("[data-job]")?.dataset.job;
  const label = active.getAttribute("aria-label");
  return job && label ? `[data-job="${CSS.escape(job)}"] [aria-label="${CSS.escape(label)}"]` : "button";
}

/** Only bars and previews move between events. */
function updateLive(panel: HTMLElement): void {
  for (const item of panel.querySelectorAll<HTMLElement>('.job[data-status="running"]')) {
    const job = store.jobs.get(item.dataset.job ?? "");
    const bar = item.querySelector("progress");
    if (!job || !bar) continue;
    bar.value = share(job);
    const preview = [...job.nodes.values()].find((node) => node.preview)?.preview;
    if (!preview) continue;
    const image = item.querySelector<HTMLImageElement>(".pic img");
    if (image) image.src = preview;
    else item.querySelector(".pic")?.replaceChildren(h("img", { src: preview, alt: "" }));
  }
}

export function startQueue(): void {
  store.on("jobs", render);
  byId("queue-panel").addEventListener("dock", () => {
    shownKey = undefined;
    render();
  });
}

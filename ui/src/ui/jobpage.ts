/** The page of one job: time per stage and node, what came from the cache, seeds, graph, downloads. */

import { api, viewUrl, type Job, type QueueItem } from "../api";
import { asApiGraph, type ApiGraph } from "../apiformat";
import { store } from "../app";
import { stringify } from "../bigjson";
import { fileSize, h } from "../dom";
import { saveFile } from "../files";
import { icon } from "../icons";
import { jobName, timeText, when } from "../jobnames";
import { readEvents } from "../jobevents";
import type { JobEvent } from "../jobs";
import { report, type NodeSpan, type Report } from "../jobreport";
import { picturesOf } from "../jobpictures";
import { factsOf, seedsOf } from "../metadata";
import { itemOf, openJobWorkflow } from "../serverflows";
import { zip, type Entry } from "../zip";
import { openDialog, type Dialog } from "./dialog";
import { openLightbox } from "./lightbox";
import { toast } from "./toasts";

interface Found {
  job: Job;
  item: QueueItem | undefined;
  events: JobEvent[];
}

const MEMORY = "The most memory that the process of the stage held, with the models it keeps. Memory of a GPU is not in it.";

const card = (value: string, label: string, title = ""): HTMLElement =>
  h("div", { class: "card", title }, h("b", {}, value), h("span", {}, label));

function lane(span: NodeSpan, title: string, ranMs: number, measured: boolean): HTMLElement[] {
  const left = ((span.fromMs ?? 0) / ranMs) * 100;
  const width = ((span.tookMs ?? 0) / ranMs) * 100;
  const style = span.phase === "cached" ? "" : `left:${left.toFixed(2)}%;width:${width.toFixed(2)}%`;
  const time = span.phase === "cached" ? "cached" : span.tookMs === undefined ? span.phase : timeText(span.tookMs);
  return [
    h("span", { title: `${span.type} on ${span.stage}` }, title),
    h("div", { class: "lane" }, h("i", { style, data: { phase: span.phase } })),
    h("span", { class: "time" }, time),
    ...(measured ? [h("span", { class: "time", title: MEMORY }, fileSize(span.peakBytes))] : []),
  ];
}

function stageTable({ stages }: Report): HTMLElement {
  const measured = stages.some(({ peakBytes }) => peakBytes !== undefined);
  const titles = ["Stage", "Time", "Nodes", "From the cache", ...(measured ? ["Peak memory"] : [])];
  const head = h("tr", {}, ...titles.map((text) => h("th", { title: text === "Peak memory" ? MEMORY : "" }, text)));
  const rows = stages.map(({ stage, tookMs, nodes, cached, peakBytes }) => {
    const cells = [stage, timeText(tookMs), String(nodes), String(cached), ...(measured ? [peakBytes === undefined ? "–" : fileSize(peakBytes)] : [])];
    return h("tr", {}, ...cells.map((text) => h("td", {}, text)));
  });
  return h("table", {}, head, ...rows);
}

function nameOf(graph: ApiGraph | undefined, id: string, type: string): string {
  const title = graph?.[id]?._meta?.title ?? store.specs.get(type)?.display_name ?? type;
  return `${title} #${id}`;
}

function render({ job, item, events }: Found): Node[] {
  const graph = asApiGraph(item?.[2]);
  const made = report(events, {
    type: (id) => graph?.[id]?.class_type ?? "unknown",
    stage: (type) => store.specs.get(type)?.stage ?? "unknown",
  });
  const cached = made.nodes.filter(({ phase }) => phase === "cached").length;
  const view = store.job(job.id);
  const pictures = picturesOf(view);
  const parts: (Node | false)[] = [
    h(
      "div",
      { class: "cards" },
      card(job.status, "Status"),
      card(made.ranMs === undefined ? "–" : timeText(made.ranMs), "Run time"),
      card(made.waitedMs === undefined ? "–" : timeText(made.waitedMs), "Waited"),
      made.peakBytes !== undefined && card(fileSize(made.peakBytes), "Peak memory", MEMORY),
      card(`${cached} of ${made.nodes.length}`, "From the cache"),
      card(when(job.created_at_ms), "Handed in"),
    ),
    job.error !== undefined && h("p", { class: "why" }, job.error.message),
    pictures.length > 0 && h("div", { class: "strip" }, ...pictures.map((picture, index) => {
      const thumb = h("button", { class: "thumb", title: picture.title }, h("img", { src: picture.url, alt: picture.title }));
      thumb.onclick = () => openLightbox(pictures, index);
      return thumb;
    })),
    h("h3", {}, "Per stage"),
    stageTable(made),
    h("h3", {}, "Per node"),
    h("div", { class: made.peakBytes === undefined ? "timeline" : "timeline measured" }, ...made.nodes.flatMap((span) => lane(span, nameOf(graph, span.id, span.type), Math.max(1, made.ranMs ?? 1), made.peakBytes !== undefined))),
  ];
  if (graph) parts.push(...aboutGraph(graph));
  return parts.filter((part): part is Node => part !== false);
}

function aboutGraph(graph: ApiGraph): Node[] {
  const seeds = seedsOf(graph).map(({ node, seed }) => h("tr", {}, h("td", { class: "dim" }, node), h("td", {}, h("code", {}, seed))));
  const facts = factsOf(graph).map(({ label, value }) => h("tr", {}, h("td", { class: "dim" }, label), h("td", {}, value)));
  return [
    h("h3", {}, "Seeds"),
    seeds.length > 0 ? h("table", { class: "pairs" }, ...seeds) : h("p", { class: "dim" }, "No node of it has a seed."),
    h("h3", {}, "Settings"),
    h("table", { class: "pairs" }, ...facts),
    h("details", {}, h("summary", {}, "The exact graph that ran"), h("pre", { tabIndex: 0 }, stringify(graph, 2))),
  ];
}

/** Everything about a job in one archive. */
async function archive({ job, item, events }: Found): Promise<Blob> {
  const text = (name: string, value: unknown): Entry => ({ name, data: new TextEncoder().encode(stringify(value, 2)) });
  const entries = [text("job.json", job), text("events.json", events)];
  if (item) entries.push(text("graph_api.json", item[2]));
  const drawn = item?.[3].extra_pnginfo?.workflow;
  if (drawn !== undefined) entries.push(text("workflow.json", drawn));
  for (const output of job.outputs) {
    const reply = await fetch(viewUrl(output));
    if (!reply.ok) throw new Error(`${output.filename}: HTTP ${reply.status}`);
    entries.push({ name: `pictures/${output.filename}`, data: new Uint8Array(await reply.arrayBuffer()) });
  }
  return zip(entries);
}

/** Opens the page of a job and keeps it up to date while the job runs. */
export function openJobPage(id: string): void {
  const found: Partial<Found> = { events: [] };
  const stop = new AbortController();
  const all = h("button", { title: "Pictures, workflow, graph and events in one archive" }, icon("download"), "Download all");
  const open = h("button", {}, icon("graph"), "Open workflow");
  const dialog: Dialog = openDialog(
    {
      name: "job-page", title: jobName(store.job(id)), actions: [open, all],
      onClose: () => {
        stop.abort();
        if (location.hash === `#job=${id}`) history.replaceState(null, "", location.pathname);
      },
    },
    h("p", { class: "dim" }, "Reading the job…"),
  );
  history.replaceState(null, "", `#job=${id}`);
  open.onclick = () => {
    dialog.close();
    void openJobWorkflow(id);
  };
  all.onclick = () =>
    void archive(found as Found).then(
      (content) => saveFile(`${jobName(found.job ?? {}).toLowerCase().replace(" ", "-")}.zip`, content),
      (error: Error) => toast("error", `The download failed: ${error.message}`),
    );
  let frame = 0;
  const draw = (): void => {
    if (!found.job) return;
    const opened = dialog.body.querySelector("details")?.open ?? false;
    const at = dialog.body.scrollTop;
    dialog.body.replaceChildren(...render(found as Found));
    const details = dialog.body.querySelector("details");
    if (details) details.open = opened;
    dialog.body.scrollTop = at;
  };
  const read = async (): Promise<void> => {
    [found.job, found.item] = await Promise.all([api.job(id), itemOf(id)]);
    store.snapshot(found.job);
    const heading = dialog.element.querySelector("h1");
    if (heading) heading.textContent = jobName(found.job);
    draw();
  };
  const onEvent = (event: JobEvent): void => {
    if (event.kind === "preview" || event.kind === "node_progress") return;
    found.events?.push(event);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  };
  void read()
    .then(() => readEvents(id, onEvent, stop.signal))
    .then(read)
    .catch((error: Error) => {
      if (!stop.signal.aborted) dialog.body.replaceChildren(h("p", { class: "why" }, `The job could not be read: ${error.message}`));
    });
}

/** A link to `#job=…` opens that job. */
export function openLinkedJob(): void {
  const id = /^#job=(.+)$/.exec(location.hash)?.[1];
  if (id) openJobPage(decodeURIComponent(id));
}

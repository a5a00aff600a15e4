/**
 * A stand-in for the gateway: the same HTTP contract, with jobs that only pretend.
 *
 * Prompts steer it: `please fail` makes the sampler fail. `POST /mock` with
 * `{"drop":true}` cuts event streams, `{"down":true}` refuses new ones,
 * `{"step_ms":n}` sets the pace, `{"hold_at":n}` stops sampling at a step until
 * it is 0, `{"checkpoints":[]}` and `{"services":"not_serving"}`
 * say what the stack has, `{"cached":["1"]}` which nodes come from the cache,
 * and `{"reset":true}` starts over.
 */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { nodes, toJson } from "./mock-nodes.mjs";
import { picture } from "./png.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const PORT = Number(process.env.MOCK_PORT ?? 4173);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml" };
const CHECKPOINTS = ["starter.safetensors"];
const NOTE = "A miniature that draws coloured shapes at 64x64.";

let state;
const streams = new Set();
const reset = () => {
  state = { jobs: new Map(), events: [], seq: 0, stepMs: 40, down: false, uploads: new Map(), running: false, bodies: [], userdata: new Map(), checkpoints: CHECKPOINTS, services: "serving", cached: [] };
};
reset();

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function frame(event) {
  return `id: ${event.seq}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`;
}

function emit(job, kind, extra = {}, durable = true) {
  const event = { seq: durable ? ++state.seq : state.seq, job_id: job.id, at_ms: Date.now(), kind, ...extra };
  if (durable) state.events.push(event);
  for (const stream of streams) stream.write(durable ? frame(event) : frame(event).replace(/^id:.*\n/, ""));
}

/** The workflow as `id -> { type, values, inputs }`, from either format. */
function read(workflow) {
  const graph = new Map();
  if (!Array.isArray(workflow.nodes)) {
    for (const [id, n] of Object.entries(workflow)) graph.set(id, { type: n.class_type, inputs: n.inputs, values: Object.values(n.inputs) });
    return graph;
  }
  const links = new Map(workflow.links.map((l) => [l[0], [String(l[1]), l[2]]]));
  for (const n of workflow.nodes) {
    const inputs = {};
    for (const i of n.inputs ?? []) if (i.link != null) inputs[i.name] = links.get(i.link);
    const inside = workflow.definitions?.subgraphs?.find(({ id }) => id === n.type);
    if (inside) for (const [id, inner] of readSubgraph(inside)) graph.set(`${n.id}:${id}`, inner);
    else graph.set(String(n.id), { type: n.type, inputs, values: n.widgets_values ?? [] });
  }
  return graph;
}

/** The nodes of a subgraph, which know their links by number only. */
function readSubgraph({ nodes: inner, links }) {
  const list = links.map((l) => [l.id, l.origin_id, l.origin_slot]);
  return read({ nodes: inner, links: list });
}

function validate(graph, specs) {
  const errors = {};
  for (const [id, n] of graph) {
    const spec = specs.find((s) => s.class === n.type);
    if (!spec) continue;
    const missing = spec.inputs.filter((i) => i.group === "required" && !i.widget && !n.inputs[i.name]);
    if (missing.length === 0) continue;
    errors[id] = {
      class_type: n.type,
      errors: missing.map((i) => ({ type: "required_input_missing", message: "required input is missing", details: i.name, extra_info: { input_name: i.name } })),
      dependent_outputs: ["7"],
    };
  }
  return errors;
}

/** Whether a job is the first in line. */
const isNext = (job) => !state.running && ![...state.jobs.values()].some((other) => other.status === "queued" && other.number < job.number);

async function runJob(job, graph) {
  const mine = state;
  while (!isNext(job)) {
    await sleep(10);
    if (job.status === "cancelled" || state !== mine) return;
  }
  state.running = true;
  try {
    job.status = "running";
    job.started_at_ms = Date.now();
    emit(job, "started");
    emit(job, "cached", { nodes: state.cached });
    job.nodes_done += state.cached.length;
    for (const [id, n] of graph) {
      if (state.cached.includes(id)) continue;
      if (job.status === "cancelled") return;
      job.current_node = id;
      emit(job, "node_started", { node_id: id, class_type: n.type });
      if (n.type === "KSampler") await sample(job, id, n, graph);
      else await sleep(state.stepMs / 2);
      if (job.status !== "running") return;
      job.nodes_done += 1;
      job.progress = null;
      const stage = nodes(state.checkpoints).find((s) => s.class === n.type)?.stage;
      emit(job, "node_done", { node_id: id, ...shown(job, id, n, graph), stage, peak_bytes: stage === "stage-image" ? 96 * 2 ** 20 : 2.25 * 2 ** 30 });
    }
    finish(job, "completed", "succeeded");
  } finally {
    state.running = false;
  }
}

async function sample(job, id, n, graph) {
  const steps = Number(n.inputs.steps ?? n.values[2] ?? 20);
  const failing = [...graph.values()].some((other) => other.values.some((v) => String(v).includes("please fail")));
  for (let step = 1; step <= steps && job.status === "running"; step += 1) {
    await sleep(state.stepMs);
    if (job.status !== "running") return;
    job.progress = { node_id: id, value: step, max: steps };
    emit(job, "node_progress", { node_id: id, value: step, max: steps }, false);
    if (step % 2 === 0) emit(job, "preview", { node_id: id, mime: "image/png", data: picture(64, 1 - step / steps).toString("base64") }, false);
    while (state.holdAt === step && job.status === "running") await sleep(10);
    if (job.status !== "running") return;
    if (failing && step === 3) {
      job.error = { code: "resource_exhausted", message: "the sampler ran out of memory at step 3: 6144 MiB wanted, 2048 MiB free", node_id: id, class_type: n.type };
      finish(job, "failed", "failed", { error: job.error });
    }
  }
}

/** What a node tells the page. */
function shown(job, id, n, graph) {
  if (n.type === "SaveImage" || n.type === "PreviewImage") return { ui: save(job, id, n.type) };
  if (n.type !== "PreviewAny") return {};
  const source = graph.get(n.inputs.source?.[0]);
  const text = [`What ${source?.type ?? "nothing"} gave to job ${job.ordinal}`];
  job.texts = [...(job.texts ?? []), { node_id: id, text }];
  return { ui: { text } };
}

function save(job, id, type) {
  const kind = type === "SaveImage" ? "output" : "temp";
  // Nodes inside a subgraph each make a picture of their own.
  const inner = id.includes(":") ? `${id.replace(":", "-")}_` : "";
  const image = { filename: `ComfyUI_${String(job.number).padStart(5, "0")}_${inner}.png`, subfolder: "", type: kind };
  job.outputs.push({ node_id: id, ...image, url: `/view?filename=${image.filename}&subfolder=&type=${kind}` });
  return { images: [image] };
}

function finish(job, status, kind, extra = {}) {
  job.status = status;
  job.finished_at_ms = Date.now();
  job.current_node = null;
  emit(job, kind, extra);
}

/** The graph that would run, in API format. */
function apiGraph(graph) {
  const specs = nodes(state.checkpoints);
  const widgets = (spec) => spec.inputs.filter((i) => i.widget).flatMap((i) => (i.widget.control_after_generate ? [i.name, null] : [i.name]));
  return Object.fromEntries([...graph].map(([id, n]) => {
    const spec = specs.find((s) => s.class === n.type);
    const values = Object.fromEntries((spec ? widgets(spec) : []).map((name, i) => [name, n.values[i]]).filter(([name]) => name));
    return [id, { class_type: n.type, inputs: { ...values, ...n.inputs }, _meta: { title: spec?.display_name ?? n.type } }];
  }));
}

function submit(workflow, { number: wanted, front, extra_data } = {}) {
  const graph = read(workflow);
  const node_errors = validate(graph, nodes(state.checkpoints));
  if (Object.keys(node_errors).length > 0) {
    const error = { code: "prompt_outputs_failed_validation", message: "every output of the workflow failed validation", details: "" };
    return [400, { error, node_errors }];
  }
  state.handedIn = (state.handedIn ?? 0) + 1;
  const number = wanted ?? (front ? -state.handedIn : state.handedIn);
  const job = { id: `job-${state.handedIn}`, status: "queued", number, ordinal: state.handedIn, created_at_ms: Date.now(), nodes_total: graph.size, nodes_done: 0, outputs: [], started_at_ms: null, finished_at_ms: null, current_node: null, progress: null, error: null };
  const extra = extra_data ?? (Array.isArray(workflow.nodes) ? { extra_pnginfo: { workflow } } : {});
  // Kept beside the job: what `/v1/jobs` answers has no graph in it.
  Object.defineProperty(job, "item", { value: [number, job.id, Array.isArray(workflow.nodes) ? apiGraph(graph) : workflow, extra, ["7"]] });
  state.jobs.set(job.id, job);
  emit(job, "queued", { number, ordinal: job.ordinal });
  void runJob(job, graph);
  return [202, { job_id: job.id, status: "queued", number, node_errors: {} }];
}

/** Moves a waiting job before another one, or to the end. */
function move(id, before) {
  const job = state.jobs.get(id);
  if (!job || (before !== null && !state.jobs.has(before))) return notFound("job");
  if (job.status !== "queued") return [409, { error: { code: "failed_precondition", message: `job ${id} is ${job.status}, only jobs that wait can be ordered`, details: "" } }];
  const others = [...state.jobs.values()].filter((other) => other.status === "queued" && other !== job).sort((a, b) => a.number - b.number);
  const at = before === null ? others.length : others.findIndex((other) => other.id === before);
  const [ahead, behind] = [others[at - 1]?.number, others[at]?.number];
  job.number = ahead === undefined ? (behind ?? 1) - 1 : behind === undefined ? ahead + 1 : (ahead + behind) / 2;
  emit(job, "moved", { number: job.number });
  return [200, job];
}

/** Keeps the picture of an upload form, and its other fields. */
function upload(body) {
  const form = body.toString("latin1");
  const name = /filename="([^"]+)"/.exec(form)?.[1] ?? "upload.png";
  const start = body.indexOf("\r\n\r\n", form.indexOf("filename=")) + 4;
  const end = body.indexOf(form.slice(0, form.indexOf("\r\n")), start) - 2;
  const fields = Object.fromEntries([...form.matchAll(/name="(\w+)"\r\n\r\n([^\r]*)\r\n/g)].map(([, key, value]) => [key, value]));
  state.uploads.set(name, { data: body.subarray(start, end), form: fields });
  return name;
}

const notFound = (what) => [404, { error: { code: "not_found", message: `no such ${what}`, details: "" } }];

const items = (...statuses) => [...state.jobs.values()].filter(({ status }) => statuses.includes(status)).map(({ item }) => item);

function jobEvents(id, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  let sent = 0;
  const send = () => {
    const all = state.events.filter(({ job_id }) => job_id === id);
    for (const event of all.slice(sent)) response.write(frame(event));
    sent = all.length;
    if (["succeeded", "failed", "cancelled"].includes(all.at(-1)?.kind)) response.end();
    else setTimeout(send, 20);
  };
  send();
}

/** `/userdata`, `/history`, `/queue`, `/prompt`: what ComfyUI has too. */
async function comfy(request, path, url, body) {
  const { method } = request;
  if (path === "/prompt" && method === "POST") {
    const order = JSON.parse(body);
    state.bodies.push(body);
    const [status, reply] = submit(order.prompt, order);
    return status === 202 ? [200, { prompt_id: reply.job_id, number: reply.number, node_errors: {} }] : [status, reply];
  }
  if (path === "/queue" && method === "GET") return [200, { queue_running: items("running"), queue_pending: items("queued") }];
  if (path === "/queue") {
    for (const id of JSON.parse(body).delete ?? []) if (state.jobs.get(id)?.status === "queued") finish(state.jobs.get(id), "cancelled", "cancelled");
    return [200, null];
  }
  if (path === "/history" && method === "POST") {
    for (const [id, { status }] of state.jobs) if (!["queued", "running"].includes(status)) state.jobs.delete(id);
    return [200, null];
  }
  const history = /^\/history\/(.+)$/.exec(path);
  if (history) {
    const job = state.jobs.get(history[1]);
    return [200, job && !["queued", "running"].includes(job.status) ? { [job.id]: { prompt: job.item } } : {}];
  }
  if (path === "/userdata") return [200, [...state.userdata].map(([name, { at }]) => ({ path: name, size: 1, modified: at / 1000 }))];
  const stored = /^\/userdata\/([^/]+)(?:\/move\/([^/]+))?$/.exec(path);
  return stored ? userdata(method, stored.slice(1, 3).map((part) => part && decodeURIComponent(part)), url, body) : undefined;
}

function userdata(method, [name, target], url, body) {
  const known = state.userdata.get(name);
  if (method === "POST" && !target) {
    if (known && url.searchParams.get("overwrite") === "false") return [409, { error: { type: "already_exists", message: "exists already" } }];
    state.userdata.set(name, { text: body, at: Date.now() });
    return [200, name];
  }
  if (!known) return notFound("file");
  if (method === "GET") return [200, JSON.parse(known.text)];
  state.userdata.delete(name);
  if (target) state.userdata.set(target, known);
  return [200, target ?? null];
}

function events(request, response) {
  if (state.down) return response.writeHead(503, { "content-type": "application/json" }).end(JSON.stringify({ error: { code: "unavailable", message: "down" } }));
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.write(": hello\n\n");
  const after = request.headers["last-event-id"];
  if (after !== undefined) for (const e of state.events) if (e.seq > Number(after)) response.write(frame(e));
  streams.add(response);
  request.on("close", () => streams.delete(response));
}

function control(body) {
  const order = JSON.parse(body);
  if (order.reset) reset();
  if (order.step_ms !== undefined) state.stepMs = order.step_ms;
  if (order.down !== undefined) state.down = order.down;
  if (order.hold_at !== undefined) state.holdAt = order.hold_at;
  for (const key of ["checkpoints", "services", "cached"]) if (order[key] !== undefined) state[key] = order[key];
  if (order.drop) for (const stream of streams) stream.destroy();
  return [200, { bodies: state.bodies, userdata: [...state.userdata.keys()], uploads: [...state.uploads].map(([name, { form }]) => ({ name, form })) }];
}

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

function png(response, size = 256) {
  response.writeHead(200, { "content-type": "image/png" }).end(picture(size));
}

async function answer(request, response) {
  const url = new URL(request.url, "http://mock");
  const path = url.pathname;
  const post = request.method === "POST";
  const jobPath = /^\/v1\/jobs\/([^/]+)(\/cancel|\/output|\/move)?$/.exec(path);
  if (path === "/v1/events") return url.searchParams.has("job_id") ? jobEvents(url.searchParams.get("job_id"), response) : events(request, response);
  if (path === "/view" && state.uploads.has(url.searchParams.get("filename"))) return response.writeHead(200, { "content-type": "image/png" }).end(state.uploads.get(url.searchParams.get("filename")).data);
  if (path === "/view" || jobPath?.[2] === "/output" || path.startsWith("/experiment/models/preview/")) return png(response);
  let reply;
  if (path === "/v1/nodes") reply = [200, { nodes: nodes(state.checkpoints) }];
  else if (path === "/v1/checkpoints") reply = [200, { checkpoints: state.checkpoints.map((name) => ({ name, bytes: 5_300_000, family: "sd1", usable: true, default: true, cover: name.startsWith("starter") ? `/experiment/models/preview/checkpoints/0/${name}` : null })), note: state.checkpoints.length > 0 ? NOTE : null }];
  else if (path === "/v1/system") reply = [200, { version: "mock", services: [{ name: "orchestrator", status: "serving", address: "mock" }, { name: "sampler", status: state.services, address: "mock:9091" }], queue: { running: 0, pending: 0 } }];
  else if (path === "/v1/workflows" && post) {
    const body = (await readBody(request)).toString();
    state.bodies.push(body);
    reply = submit(JSON.parse(body));
  } else if (path === "/v1/workflows/convert" && post) {
    reply = [200, apiGraph(read(JSON.parse((await readBody(request)).toString())))];
  } else if (path === "/v1/jobs") {
    const jobs = [...state.jobs.values()].reverse();
    const offset = Number(url.searchParams.get("offset") ?? 0);
    reply = [200, { jobs: jobs.slice(offset, offset + Number(url.searchParams.get("limit") ?? 100)), total: jobs.length }];
  } else if (jobPath && request.method === "DELETE") {
    reply = state.jobs.delete(jobPath[1]) ? [204, null] : notFound("job");
  } else if (jobPath?.[2] === "/move") {
    reply = move(jobPath[1], JSON.parse((await readBody(request)).toString()).before);
  } else if (jobPath) {
    const job = state.jobs.get(jobPath[1]);
    if (job && jobPath[2] === "/cancel" && ["queued", "running"].includes(job.status)) finish(job, "cancelled", "cancelled");
    reply = job ? [200, job] : notFound("job");
  } else if (path.startsWith("/upload/") && post) {
    reply = [200, { name: upload(await readBody(request)), subfolder: "", type: "input" }];
  } else if (path === "/mock" && post) reply = control((await readBody(request)).toString());
  else reply = await comfy(request, path, url, (await readBody(request)).toString());
  if (reply?.[1] === null) return response.writeHead(reply[0]).end();
  if (reply) return response.writeHead(reply[0], { "content-type": "application/json" }).end(toJson(reply[1]));
  return file(path, response);
}

async function file(path, response) {
  const name = normalize(path === "/" ? "/index.html" : path);
  try {
    const data = await readFile(join(DIST, name));
    response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" }).end(data);
  } catch {
    response.writeHead(404).end();
  }
}

createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (!response.headersSent) response.writeHead(500, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { code: "internal", message: String(error), details: "" } }));
  });
}).listen(PORT, "127.0.0.1", () => console.log(`mock gateway on http://127.0.0.1:${PORT}`));

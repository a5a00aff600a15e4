/**
 * A stand-in for the gateway: the same HTTP contract, with jobs that only pretend.
 *
 * Prompts steer it: `please fail` makes the sampler fail. `POST /mock` with
 * `{"drop":true}` cuts event streams, `{"down":true}` refuses new ones,
 * `{"step_ms":n}` sets the pace and `{"reset":true}` starts over.
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
  state = { jobs: new Map(), events: [], seq: 0, stepMs: 40, down: false, uploads: new Map(), running: false, bodies: [] };
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
    graph.set(String(n.id), { type: n.type, inputs, values: n.widgets_values ?? [] });
  }
  return graph;
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

async function runJob(job, graph) {
  while (state.running) {
    await sleep(10);
    if (job.status === "cancelled") return;
  }
  state.running = true;
  try {
    job.status = "running";
    job.started_at_ms = Date.now();
    emit(job, "started");
    emit(job, "cached", { nodes: [] });
    for (const [id, n] of graph) {
      if (job.status === "cancelled") return;
      job.current_node = id;
      emit(job, "node_started", { node_id: id, class_type: n.type });
      if (n.type === "KSampler") await sample(job, id, n, graph);
      else await sleep(state.stepMs / 2);
      if (job.status !== "running") return;
      job.nodes_done += 1;
      job.progress = null;
      emit(job, "node_done", n.type === "SaveImage" || n.type === "PreviewImage" ? { node_id: id, ui: save(job, id, n.type) } : { node_id: id });
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
    if (failing && step === 3) {
      job.error = { code: "resource_exhausted", message: "the sampler ran out of memory at step 3: 6144 MiB wanted, 2048 MiB free", node_id: id, class_type: n.type };
      finish(job, "failed", "failed", { error: job.error });
    }
  }
}

function save(job, id, type) {
  const kind = type === "SaveImage" ? "output" : "temp";
  const image = { filename: `ComfyUI_${String(job.number).padStart(5, "0")}_.png`, subfolder: "", type: kind };
  job.outputs.push({ node_id: id, ...image, url: `/view?filename=${image.filename}&subfolder=&type=${kind}` });
  return { images: [image] };
}

function finish(job, status, kind, extra = {}) {
  job.status = status;
  job.finished_at_ms = Date.now();
  job.current_node = null;
  emit(job, kind, extra);
}

function submit(body) {
  const workflow = JSON.parse(body);
  const graph = read(workflow);
  const node_errors = validate(graph, nodes(CHECKPOINTS));
  if (Object.keys(node_errors).length > 0) {
    const error = { code: "prompt_outputs_failed_validation", message: "every output of the workflow failed validation", details: "" };
    return [400, { error, node_errors }];
  }
  const number = state.jobs.size + 1;
  const job = { id: `job-${number}`, status: "queued", number, created_at_ms: Date.now(), nodes_total: graph.size, nodes_done: 0, outputs: [], started_at_ms: null, finished_at_ms: null, current_node: null, progress: null, error: null };
  state.jobs.set(job.id, job);
  emit(job, "queued");
  void runJob(job, graph);
  return [202, { job_id: job.id, status: "queued", number, node_errors: {} }];
}

const notFound = (what) => [404, { error: { code: "not_found", message: `no such ${what}`, details: "" } }];

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
  if (order.drop) for (const stream of streams) stream.destroy();
  return [200, { bodies: state.bodies }];
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
  const jobPath = /^\/v1\/jobs\/([^/]+)(\/cancel|\/output)?$/.exec(path);
  if (path === "/v1/events") return events(request, response);
  if (path === "/view" || jobPath?.[2] === "/output") return png(response);
  let reply;
  if (path === "/v1/nodes") reply = [200, { nodes: nodes(CHECKPOINTS) }];
  else if (path === "/v1/checkpoints") reply = [200, { checkpoints: CHECKPOINTS.map((name) => ({ name, bytes: 5_300_000, family: "sd1", usable: true, default: true })), note: NOTE }];
  else if (path === "/v1/system") reply = [200, { version: "mock", services: [{ name: "orchestrator", status: "serving", address: "mock" }], queue: { running: 0, pending: 0 } }];
  else if (path === "/v1/workflows" && post) {
    const body = (await readBody(request)).toString();
    state.bodies.push(body);
    reply = submit(body);
  } else if (path === "/v1/jobs") {
    const jobs = [...state.jobs.values()].reverse();
    reply = [200, { jobs, total: jobs.length }];
  } else if (jobPath) {
    const job = state.jobs.get(jobPath[1]);
    if (job && jobPath[2] === "/cancel" && ["queued", "running"].includes(job.status)) finish(job, "cancelled", "cancelled");
    reply = job ? [200, job] : notFound("job");
  } else if (path === "/upload/image" && post) {
    const name = /filename="([^"]+)"/.exec((await readBody(request)).toString("latin1"))?.[1] ?? "upload.png";
    reply = [200, { name, subfolder: "", type: "input" }];
  } else if (path === "/mock" && post) reply = control((await readBody(request)).toString());
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

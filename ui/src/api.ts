/** Typed client of the gateway's `/v1` API. */

import { parse, stringify, type BigLiteral } from "./bigjson";

export type WidgetSpec =
  | {
      kind: "int";
      default?: number | BigLiteral;
      min?: number | BigLiteral;
      max?: number | BigLiteral;
      step?: number;
      control_after_generate?: boolean;
    }
  | { kind: "float"; default?: number; min?: number; max?: number; step?: number; round?: number }
  | { kind: "text"; default?: string; multiline?: boolean; dynamic_prompts?: boolean }
  | { kind: "bool"; default?: boolean; label_on?: string; label_off?: string }
  | { kind: "combo"; options: string[]; default?: string; folder?: string; upload?: string; open?: boolean }
  | { kind: "dynamic_combo"; options: DynamicOption[] };

/** One option of a choice, with the inputs that a node has while it is chosen. */
export interface DynamicOption {
  key: string;
  inputs: InputSpec[];
}

export interface InputSpec {
  name: string;
  group: "required" | "optional" | "hidden";
  type: string;
  tooltip?: string;
  force_input?: boolean;
  widget?: WidgetSpec;
}

export interface OutputSpec {
  name: string;
  type: string;
  is_list?: boolean;
  tooltip?: string;
}

export interface NodeSpec {
  class: string;
  display_name?: string;
  description?: string;
  category?: string;
  version?: string | number;
  output_node?: boolean;
  deprecated?: boolean;
  experimental?: boolean;
  stage?: string;
  inputs: InputSpec[];
  outputs: OutputSpec[];
}

export interface ImageRef {
  filename: string;
  subfolder: string;
  type: string;
}

export interface JobOutput extends ImageRef {
  node_id: string;
  url?: string;
}

export type JobStatus = "queued" | "running" | "completed" | "failed" | "cancelled";

export interface JobError {
  code: string;
  message: string;
  node_id?: string;
  class_type?: string;
}

export interface Job {
  id: string;
  status: JobStatus;
  number: number;
  ordinal?: number;
  created_at_ms?: number;
  started_at_ms?: number;
  finished_at_ms?: number;
  nodes_total: number;
  nodes_done: number;
  current_node?: string;
  progress?: { node_id: string; value: number; max: number };
  outputs: JobOutput[];
  texts?: { node_id: string; text: string[] }[];
  error?: JobError;
}

export interface NodeProblem {
  type: string;
  message: string;
  details?: string;
  extra_info?: { input_name?: string };
}

export type NodeErrors = Record<
  string,
  { class_type?: string; errors: NodeProblem[]; dependent_outputs?: string[] }
>;

export interface Submitted {
  job_id: string;
  status: JobStatus;
  number: number;
  node_errors?: NodeErrors;
}

export interface Checkpoint {
  name: string;
  bytes?: number;
  family?: string;
  usable: boolean;
  reason?: string;
  /** What to know before using it, such as that its weights are random. */
  note?: string;
  default?: boolean;
  /** The address of the picture beside it. */
  cover?: string;
}

export interface SystemInfo {
  version?: string;
  services?: { name: string; status: string; address?: string; detail?: string }[];
  queue?: { running: number; pending: number };
}

/** A job as ComfyUI's queue and history show it. */
export type QueueItem = [
  number: number,
  id: string,
  graph: Record<string, unknown>,
  extra: { extra_pnginfo?: { workflow?: unknown } },
  outputs: string[],
];

export interface Enqueue {
  prompt: unknown;
  extra_data?: unknown;
  front?: boolean;
  /** An explicit place: smaller comes first. */
  number?: number;
  partial_execution_targets?: string[];
}

/** A reply other than 2xx, with the gateway's own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details?: string,
    readonly nodeErrors: NodeErrors = {},
  ) {
    super(message);
  }
}

interface ErrorBody {
  error?: { code?: string; message?: string; details?: unknown } | string;
  node_errors?: NodeErrors;
}

function toApiError(status: number, text: string): ApiError {
  let body: ErrorBody;
  try {
    body = JSON.parse(text) as ErrorBody;
  } catch {
    return new ApiError(status, "unreadable_reply", text.slice(0, 300) || `HTTP ${status}`);
  }
  if (typeof body.error === "string") return new ApiError(status, "error", body.error);
  const details = body.error?.details;
  return new ApiError(
    status,
    body.error?.code ?? "error",
    body.error?.message ?? `HTTP ${status}`,
    typeof details === "string" ? details : details == null ? undefined : JSON.stringify(details),
    body.node_errors ?? {},
  );
}

/** Drops `null` members: to the page, an absent value and a null one are the same. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutNulls(member)]));
}

/** A file as the gateway keeps it. */
export interface Stored {
  name: string;
  subfolder: string;
  type: string;
}

export function post(body: unknown): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: stringify(body) };
}

export async function request<T>(path: string, init?: RequestInit): Promise<T> {
  const reply = await fetch(path, init);
  const text = await reply.text();
  if (!reply.ok) throw toApiError(reply.status, text);
  return (text === "" ? undefined : withoutNulls(parse(text))) as T;
}

export const api = {
  nodes: async () => (await request<{ nodes: NodeSpec[] }>("/v1/nodes")).nodes,
  checkpoints: () =>
    request<{ checkpoints: Checkpoint[]; note?: string }>("/v1/checkpoints"),
  system: () => request<SystemInfo>("/v1/system"),
  jobs: async (limit: number, offset = 0) =>
    (await request<{ jobs: Job[]; total: number }>(`/v1/jobs?limit=${limit}&offset=${offset}`)).jobs,
  job: (id: string) => request<Job>(`/v1/jobs/${encodeURIComponent(id)}`),
  cancel: (id: string) =>
    request<Job>(`/v1/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" }),
  /** Moves a waiting job before another one, or to the end of the queue. */
  move: (id: string, before: string | null) =>
    request<Job>(`/v1/jobs/${encodeURIComponent(id)}/move`, post({ before })),
  submit: (workflow: unknown) => request<Submitted>("/v1/workflows", post(workflow)),
  /** Hands in with a place in the queue; an API graph or a workflow. */
  enqueue: (order: Enqueue) =>
    request<{ prompt_id: string; number: number; node_errors?: NodeErrors }>("/prompt", post(order)),
  queue: () => request<{ queue_running: QueueItem[]; queue_pending: QueueItem[] }>("/queue"),
  dequeue: (ids: string[]) => request<void>("/queue", post({ delete: ids })),
  history: async (id: string) =>
    (await request<Record<string, { prompt: QueueItem } | undefined>>(`/history/${encodeURIComponent(id)}`))[id]?.prompt,
  forget: (id: string) => request<void>(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }),
  clearHistory: () => request<void>("/history", post({ clear: true })),
  convert: (workflow: unknown) => request<unknown>("/v1/workflows/convert", post(workflow)),
  uploadImage: (file: File) => {
    const form = new FormData();
    form.append("image", file, file.name);
    return request<Stored>("/upload/image", { method: "POST", body: form });
  },
  /** Stores `original` with the alpha channel of `mask`, as a new input picture. */
  uploadMask: (mask: Blob, name: string, original: ImageRef) => {
    const form = new FormData();
    form.append("image", mask, name);
    form.append("type", "input");
    form.append("original_ref", JSON.stringify(original));
    return request<Stored>("/upload/mask", { method: "POST", body: form });
  },
};

/** The address of a stored picture. */
export function viewUrl(image: ImageRef): string {
  const query = new URLSearchParams({
    filename: image.filename,
    subfolder: image.subfolder ?? "",
    type: image.type || "output",
  });
  return `/view?${query}`;
}

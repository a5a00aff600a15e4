/**
 * Server-sent events over `fetch`.
 *
 * The built-in `EventSource` stops for good at the first non-200 reply (a
 * restarting gateway, say) and then forgets its last event id; this client
 * keeps the id, backs off and comes back.
 */

export interface SseMessage {
  id?: string;
  event: string;
  data: string;
}

/** Splits a stream of text into messages; fed in pieces of any size. */
export class SseParser {
  private rest = "";
  private data: string[] = [];
  private event = "";
  private id: string | undefined;

  push(chunk: string): SseMessage[] {
    const messages: SseMessage[] = [];
    this.rest += chunk;
    // A trailing "\r" may be half of "\r\n", so it waits for the next piece.
    const held = this.rest.endsWith("\r") ? "\r" : "";
    const text = held ? this.rest.slice(0, -1) : this.rest;
    const lines = text.split(/\r\n|\n|\r/);
    this.rest = (lines.pop() ?? "") + held;
    for (const line of lines) {
      const message = this.line(line);
      if (message) messages.push(message);
    }
    return messages;
  }

  private line(line: string): SseMessage | undefined {
    if (line === "") return this.flush();
    if (line.startsWith(":")) return undefined;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id") this.id = value;
    return undefined;
  }

  private flush(): SseMessage | undefined {
    const { data, event, id } = this;
    this.data = [];
    this.event = "";
    this.id = undefined;
    if (data.length === 0) return undefined;
    return { id, event: event || "message", data: data.join("\n") };
  }
}

export type StreamState = "connecting" | "open" | "lost";

export interface StreamHandlers {
  onMessage(message: SseMessage): void;
  onState(state: StreamState): void;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8_000;

/** Keeps one event stream open until `close` is called. */
export class EventStream {
  private lastId: string | undefined;
  private retryMs = FIRST_RETRY_MS;
  private abort = new AbortController();
  private wake: (() => void) | undefined;
  private closed = false;

  constructor(
    private readonly url: string,
    private readonly handlers: StreamHandlers,
    lastId?: string,
  ) {
    this.lastId = lastId;
    void this.run();
  }

  close(): void {
    this.closed = true;
    this.abort.abort();
    this.wake?.();
  }

  /** The id of the last durable event seen. */
  get position(): string | undefined {
    return this.lastId;
  }

  /** Connects anew without asking for what was missed: the server started over. */
  restart(): void {
    this.lastId = undefined;
    this.abort.abort();
  }

  /** Tries again at once, for instance when the browser says the network is back. */
  retryNow(): void {
    this.wake?.();
  }

  private async run(): Promise<void> {
    while (!this.closed) {
      try {
        await this.connect();
      } catch {
        // Every failure here means the same: not connected, try again.
      }
      if (this.closed) return;
      this.handlers.onState("lost");
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.retryMs);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
    }
  }

  /** Events that are not kept may carry an older number; the place in the stream never goes back. */
  private advance(id: string): void {
    if (this.lastId === undefined || !(Number(id) < Number(this.lastId))) this.lastId = id;
  }

  private async connect(): Promise<void> {
    this.abort = new AbortController();
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (this.lastId !== undefined) headers["last-event-id"] = this.lastId;
    const reply = await fetch(this.url, { headers, cache: "no-store", signal: this.abort.signal });
    const type = reply.headers.get("content-type") ?? "";
    if (!reply.ok || !reply.body || !type.startsWith("text/event-stream")) {
      throw new Error(`event stream refused with ${reply.status}`);
    }
    this.retryMs = FIRST_RETRY_MS;
    this.handlers.onState("open");
    const parser = new SseParser();
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const message of parser.push(value)) {
        if (message.id !== undefined) this.advance(message.id);
        this.handlers.onMessage(message);
      }
    }
  }
}

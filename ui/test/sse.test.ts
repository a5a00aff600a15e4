import { expect, test, vi } from "vitest";
import { EventStream, SseParser } from "../src/sse";

const STREAM = ': hi\n\nid: 7\nevent: queued\ndata: {"a":1}\n\ndata: one\ndata: two\n\nretry: 10\n\n';
const WANTED = [
  { id: "7", event: "queued", data: '{"a":1}' },
  { id: undefined, event: "message", data: "one\ntwo" },
];

test.each([1, 2, 3, 7, 1000])("messages come out whole from pieces of %i characters", (size) => {
  const parser = new SseParser();
  const seen = [];
  for (let at = 0; at < STREAM.length; at += size) seen.push(...parser.push(STREAM.slice(at, at + size)));
  expect(seen).toEqual(WANTED);
});

test.each([1, 2, 5])("carriage returns split over pieces of %i make no extra lines", (size) => {
  const text = STREAM.replaceAll("\n", "\r\n") + "data: end\r\n\r\n: tick\r\n";
  const parser = new SseParser();
  const seen = [];
  for (let at = 0; at < text.length; at += size) seen.push(...parser.push(text.slice(at, at + size)));
  expect(seen).toEqual([...WANTED, { id: undefined, event: "message", data: "end" }]);
});

const body = (text: string): Response =>
  new Response(text, { status: 200, headers: { "content-type": "text/event-stream" } });

test("a stream that is refused or ends comes back and names its place, which never goes back", async () => {
  const asked: (string | null)[] = [];
  const replies = [
    () => body("id: 5\ndata: a\n\nid: 0\nevent: preview\ndata: b\n\n"),
    () => new Response("down", { status: 503 }),
    () => body("id: 6\ndata: c\n\n"),
  ];
  const seen: string[] = [];
  const states: string[] = [];
  await new Promise<void>((resolve) => {
    vi.stubGlobal("fetch", (_: string, init: RequestInit) => {
      asked.push(new Headers(init.headers).get("last-event-id"));
      const reply = replies[asked.length - 1];
      if (reply) return Promise.resolve(reply());
      stream.close();
      resolve();
      return Promise.reject(new Error("closed"));
    });
    const stream = new EventStream("/v1/events", {
      onMessage: ({ data }) => seen.push(data),
      onState: (state) => {
        states.push(state);
        // The wait begins after this call; ending it at once keeps the test quick.
        if (state === "lost") setTimeout(() => stream.retryNow(), 0);
      },
    });
  });
  vi.unstubAllGlobals();
  expect(seen).toEqual(["a", "b", "c"]);
  expect(asked).toEqual([null, "5", "5", "6"]);
  expect(states).toEqual(["open", "lost", "lost", "open", "lost"]);
});

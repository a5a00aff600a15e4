// Public npm clients of ComfyUI, unmodified, against the stack at COMFY_URL.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Client } from "@stable-canvas/comfyui-client";
import WebSocket from "ws";

const url = process.env.COMFY_URL;
const workflow = JSON.parse(readFileSync(new URL("./workflow.json", import.meta.url), "utf8"));

test("@stable-canvas/comfyui-client queues, follows and downloads", { timeout: 180_000 }, async () => {
  const client = new Client({ api_host: new URL(url).host, WebSocket, fetch });
  try {
    assert.ok((await client.getSystemStats()).devices);
    client.connect();
    workflow[5].inputs.seed = Math.floor(Math.random() * 2 ** 50);
    const steps = [];
    const result = await client.enqueue(workflow, { progress: ({ value, max }) => steps.push([value, max]) });
    assert.ok(steps.some(([, max]) => max === 8), JSON.stringify(steps));
    // This client puts previews, where it gets some, among the pictures; what was saved has an address.
    const saved = result.images.filter((image) => image.type === "url");
    assert.equal(saved.length, 1);
    const bytes = new Uint8Array(await (await fetch(saved[0].data)).arrayBuffer());
    assert.deepEqual([...bytes.slice(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
    const history = await client.getHistory();
    assert.ok(JSON.stringify(history).includes(result.prompt_id));
  } finally {
    client.close();
  }
});

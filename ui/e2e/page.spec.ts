import { readFile } from "node:fs/promises";
import { expect } from "@playwright/test";
import { node, nodes, open, point, ready, shot, tell, test, widgetY, select } from "./helpers";

test.beforeEach(async ({ page }) => {
  await tell(page, { reset: true, step_ms: 5 });
});

test("boots without errors and draws the default workflow", async ({ page }) => {
  const trouble = await open(page);
  const types = (await nodes(page)).map(({ type }) => type).sort();
  expect(types).toEqual([
    "CLIPTextEncode", "CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "SaveImage", "VAEDecode",
  ]);
  await expect(page.locator("#connection")).toHaveText("connected");
  await expect(page.locator("#notice")).toContainText("coloured shapes");
  // The canvas shows more than its background: titles and links are there.
  const colours = await page.evaluate(() => {
    const canvas = document.querySelector<HTMLCanvasElement>("#graph")!;
    const { data } = canvas.getContext("2d")!.getImageData(0, 60, canvas.width, canvas.height - 60);
    const seen = new Set<number>();
    for (let i = 0; i < data.length; i += 40) seen.add((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
    return seen.size;
  });
  expect(colours).toBeGreaterThan(30);
  expect(trouble.list).toEqual([]);
  await shot(page, "first-visit");
});

test("offers the checkpoints of the node definitions", async ({ page }) => {
  await open(page);
  const list = page.locator("#checkpoint");
  await expect(list).toHaveValue("starter.safetensors");
  await expect(list.locator("option")).toHaveCount(1);
  await page.click("#refresh");
  await expect(page.locator(".toast")).toContainText("read again");
  // The picture beside the file is shown where one chooses it.
  const loader = await node(page, "CheckpointLoaderSimple");
  await select(page, loader.id);
  const cover = page.locator("#inspector img.cover");
  await expect.poll(() => cover.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(256);
  await page.mouse.click(...(await point(page, loader.id, loader.size[0] / 2, (await widgetY(page, loader.id, "ckpt_name")) + 8)));
  await expect(page.locator(".choice img")).toBeVisible();
  await shot(page, "covers");
});

test("replaces a checkpoint that is not there and says so", async ({ page }) => {
  await open(page);
  const text = await readFile("public/workflows/default.json", "utf8");
  const buffer = Buffer.from(text.replace("starter", "nowhere"));
  await page.setInputFiles("#file", { name: "other.json", mimeType: "application/json", buffer });
  await expect(page.locator(".toast.warn")).toContainText("nowhere.safetensors");
  expect((await node(page, "CheckpointLoaderSimple")).values.ckpt_name).toBe("starter.safetensors");
});

test("runs: progress, preview, picture on the node and in the sidebar", async ({ page }) => {
  await tell(page, { hold_at: 10 });
  const trouble = await open(page);
  await page.keyboard.press("Control+Enter");
  await expect(page.locator("#progress-text")).toContainText("KSampler, step 10 of 20");
  // A page that learned of the run by its state has seen one step; the pace shows with the next ones.
  await tell(page, { hold_at: 14 });
  await expect(page.locator("#progress-text")).toContainText("KSampler, step 14 of 20");
  await expect(page.locator("#progress-left")).toContainText("left");
  await expect(page.locator(".live img")).toBeVisible();
  expect((await node(page, "KSampler")).phase).toBe("running");
  expect((await node(page, "SaveImage")).phase).toBe("queued");
  await shot(page, "running");
  await tell(page, { hold_at: 0 });
  await expect(page.locator("#progress-text")).toContainText("Done in");
  await expect(page.locator(".result img")).toBeVisible();
  const shown = await page.locator(".result img").evaluate((image: HTMLImageElement) => image.naturalWidth);
  expect(shown).toBe(256);
  expect((await nodes(page)).map(({ phase }) => phase)).toEqual(Array(7).fill("done"));
  // The picture is drawn on the node: its sun is yellow there and nowhere else.
  const save = await node(page, "SaveImage");
  const y = await widgetY(page, save.id, "$$picture");
  const [px, py] = await point(page, save.id, 10 + (save.size[0] - 20) * 0.65, y + (save.size[0] - 20) * 0.35);
  await expect
    .poll(() =>
      page.evaluate(([x, at]) => {
        const canvas = document.querySelector<HTMLCanvasElement>("#graph")!;
        return [...canvas.getContext("2d")!.getImageData(x!, at!, 1, 1).data.slice(0, 2)].every((c) => c > 180);
      }, [px, py]),
    )
    .toBe(true);
  await shot(page, "done");
  expect(trouble.list).toEqual([]);
});

test("shows validation errors on the node and in the panel", async ({ page }) => {
  await open(page);
  await page.evaluate(() => (window as any).comfy.graph.getNodeById(5).disconnectInput(0));
  await page.click("#run");
  await expect(page.locator("#problems")).toContainText("required input is missing: model");
  await expect(page.locator('.outline [data-phase="failed"]')).toHaveText(/^KSampler/);
  await shot(page, "invalid");
  await page.locator(".problem").first().click();
  await expect(page.locator("#inspector .error")).toContainText("required input is missing: model");
  await expect(page.locator("#inspector .title")).toHaveValue("KSampler");
});

test("shows a failed job on its node", async ({ page }) => {
  await open(page);
  await page.evaluate(() => {
    (window as any).comfy.graph.getNodeById(2).widgets[0].value = "please fail";
  });
  await page.click("#run");
  await expect(page.locator(".toast.error")).toContainText("ran out of memory");
  const sampler = await node(page, "KSampler");
  expect(sampler.phase).toBe("failed");
  expect((await node(page, "SaveImage")).phase).toBeUndefined();
  await shot(page, "failed");
  // Edited, it gets another chance: the message goes before the next run.
  await page.mouse.click(...(await point(page, sampler.id, 60, -15)));
  await expect(page.locator("#inspector .error")).toContainText("ran out of memory");
  await page.locator('#inspector [data-field="steps"] input').fill("4");
  await page.locator('#inspector [data-field="steps"] input').press("Enter");
  await expect.poll(async () => (await node(page, "KSampler")).phase).toBeUndefined();
});

test("cancels the running job", async ({ page }) => {
  await tell(page, { hold_at: 4 });
  await open(page);
  await page.click("#run");
  await expect(page.locator("#progress-text")).toContainText("KSampler, step 4");
  await page.click("#cancel");
  await expect(page.locator("#progress-text")).toHaveText("Cancelled");
  await expect(page.locator("#queue")).toHaveText("idle");
  await expect(page.locator("#cancel")).toBeDisabled();
});

test("keeps the workflow across a reload", async ({ page }) => {
  await open(page);
  const prompt = (await nodes(page)).find(({ type }) => type === "CLIPTextEncode")!;
  const y = await widgetY(page, prompt.id, "text");
  await page.mouse.click(...(await point(page, prompt.id, prompt.size[0] / 2, y + 30)));
  await page.locator("textarea.field-editor").fill("a {red|red} kite over dunes");
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  await page.reload();
  await ready(page);
  expect((await nodes(page)).find(({ id }) => id === prompt.id)!.values.text).toBe("a {red|red} kite over dunes");
  const { bodies } = await tell(page, {});
  expect(JSON.parse(bodies[0]!).nodes.find((n: { id: number }) => n.id === prompt.id).widgets_values[0]).toBe("a red kite over dunes");
});

test("shows a running job in full after a reload", async ({ page }) => {
  await tell(page, { hold_at: 10 });
  await open(page);
  const height = (await node(page, "KSampler")).size[1];
  await page.click("#run");
  await expect(page.locator(".live img")).toBeVisible();
  await expect.poll(async () => (await node(page, "KSampler")).size[1]).toBeGreaterThan(height + 100);
  await page.reload();
  await ready(page);
  await expect(page.locator("#progress-text")).toContainText("KSampler, step 10");
  const phases = (await nodes(page)).map(({ phase }) => phase);
  expect(phases.filter((phase) => phase === "done")).toHaveLength(4);
  await tell(page, { hold_at: 0 });
  await expect(page.locator(".result img")).toBeVisible();
  expect((await nodes(page)).map(({ phase }) => phase)).toEqual(Array(7).fill("done"));
  // The room made for the preview is given back, also by the saved workflow.
  await expect.poll(async () => (await node(page, "KSampler")).size[1]).toBe(height);
});

test("edits fields in the inspector and keeps 64-bit seeds exact", async ({ page }) => {
  await open(page);
  const sampler = await node(page, "KSampler");
  await page.mouse.click(...(await point(page, sampler.id, 60, -15)));
  const seed = page.locator('#inspector [data-field="seed"] input');
  await seed.fill("18446744073709551615");
  await seed.press("Enter");
  await expect(seed).toHaveValue("18446744073709551615");
  await page.locator('#inspector [data-field="steps"] input').fill("4");
  await page.locator('#inspector [data-field="steps"] input').press("Tab");
  await page.locator('#inspector [data-field="sampler_name"] select').selectOption("dpmpp_2m");
  await page.click("#run");
  await expect(page.locator(".result img")).toBeVisible();
  const { bodies } = await tell(page, {});
  expect(bodies[0]).toContain("[18446744073709551615,\"fixed\",4,5,\"dpmpp_2m\",\"normal\",1]");
});

test("moves the seed on after a run when told to", async ({ page }) => {
  await open(page);
  const before = (await node(page, "KSampler")).values;
  await page.evaluate(() => {
    (window as any).comfy.graph.getNodeById(5).widgets.find((w: any) => w.name === "control_after_generate").value = "increment";
  });
  await page.click("#run");
  await expect(page.locator(".result img")).toBeVisible();
  expect((await node(page, "KSampler")).values.seed).toBe((before.seed as number) + 1);
});

test("catches up after the connection was lost", async ({ page }) => {
  await open(page);
  await expect(page.locator("#connection")).toHaveText("connected");
  await tell(page, { hold_at: 5 });
  await page.click("#run");
  await expect(page.locator("#progress-text")).toContainText("KSampler, step 5");
  await tell(page, { down: true, drop: true });
  await expect(page.locator("#connection")).toHaveText("connection lost");
  await shot(page, "connection-lost");
  // What is on the nodes stays, and what happens meanwhile is told afterwards.
  expect((await node(page, "KSampler")).phase).toBe("running");
  await tell(page, { hold_at: 0 });
  await expect.poll(async () => (await page.request.get("/v1/jobs/job-1")).json()).toMatchObject({ status: "completed" });
  await tell(page, { down: false });
  await expect(page.locator("#connection")).toHaveText("connected");
  await expect(page.locator(".result img")).toBeVisible();
  expect((await node(page, "SaveImage")).phase).toBe("done");
});

test("loads API-format files, saves UI-format ones, and keeps unknown nodes", async ({ page }) => {
  await open(page);
  await page.setInputFiles("#file", "public/workflows/default_api.json");
  await expect(page.locator(".toast.good")).toContainText("default_api.json");
  expect(await nodes(page)).toHaveLength(7);
  await page.click("#run");
  await expect(page.locator(".result img")).toBeVisible();
  const strange = {
    version: 0.4, last_node_id: 2, last_link_id: 0, links: [], groups: [],
    nodes: [{ id: 2, type: "NobodyHasThis", pos: [0, 0], size: [200, 80], flags: {}, order: 0, mode: 0, inputs: [], outputs: [], properties: {}, widgets_values: [1, "two"] }],
  };
  const buffer = Buffer.from(JSON.stringify(strange));
  await page.setInputFiles("#file", { name: "strange.json", mimeType: "application/json", buffer });
  await expect(page.locator("#problems")).toContainText("no service offers this node");
  const download = page.waitForEvent("download");
  await page.keyboard.press("Control+Shift+S");
  const saved = JSON.parse(await readFile((await (await download).path())!, "utf8"));
  expect(saved.nodes[0].widgets_values).toEqual([1, "two"]);
});

test("takes a dropped file", async ({ page }) => {
  await open(page);
  const text = (await readFile("public/workflows/default.json", "utf8")).replace("Positive prompt", "Dropped prompt");
  await page.evaluate((content) => {
    const data = new DataTransfer();
    data.items.add(new File([content], "dropped.json", { type: "application/json" }));
    for (const type of ["dragenter", "dragover", "drop"]) {
      document.querySelector("#graph")!.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
    }
  }, text);
  await expect(page.locator(".toast.good")).toContainText("dropped.json");
  await expect(page.locator("#drop")).toBeHidden();
  const titles = await page.evaluate(() => (window as any).comfy.graph.nodes.map((n: any) => n.title));
  expect(titles).toContain("Dropped prompt");
});

test("adds a node from the list", async ({ page }) => {
  await open(page);
  await page.click("#toggle-palette");
  await expect(page.locator("#palette")).toBeVisible();
  await page.fill("#palette-search", "invert");
  await page.press("#palette-search", "Enter");
  expect((await node(page, "ImageInvert")).size[0]).toBeGreaterThan(100);
  await expect(page.locator("#inspector .title")).toHaveValue("Invert Image");
});

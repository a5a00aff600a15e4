import { expect, test } from "@playwright/test";
import { node, nodes, open, select, shot } from "./helpers";
import { picture } from "./png.mjs";

// Run with COMFY_URL=http://localhost:8080 against a stack that has a checkpoint.

test("boots, runs the default workflow and shows the picture", async ({ page }) => {
  const trouble = await open(page);
  expect(await nodes(page)).toHaveLength(7);
  await expect(page.locator("#checkpoint option").first()).toBeAttached();
  await page.evaluate(() => {
    const widgets = (window as any).comfy.graph.getNodeById(5).widgets;
    widgets.find((w: any) => w.name === "steps").value = 20;
    widgets.find((w: any) => w.name === "seed").value = Math.floor(Math.random() * 2 ** 50);
  });
  // A short run can be over between two looks at the page, so the page itself keeps what it said.
  await page.evaluate(() => {
    const text = document.getElementById("progress-text")!;
    const said: string[] = ((window as any).said = []);
    new MutationObserver(() => said.push(text.textContent ?? "")).observe(text, { childList: true, characterData: true, subtree: true });
  });
  await page.click("#run");
  await expect(page.locator("#progress-text")).toContainText("Done in", { timeout: 240_000 });
  const said: string[] = await page.evaluate(() => (window as any).said);
  expect(said.filter((text) => /step \d+ of 20/.test(text)), said.join(" | ")).not.toEqual([]);
  expect((await node(page, "SaveImage")).phase).toBe("done");
  const width = await page.locator(".result img").first().evaluate(async (image: HTMLImageElement) => {
    await image.decode();
    return image.naturalWidth;
  });
  expect(width).toBe(64);
  // Both stages say what memory they needed, and the page of the job shows it.
  const { jobs } = await (await page.request.get("/v1/jobs?limit=1")).json();
  const { memory } = await (await page.request.get(`/v1/jobs/${jobs[0].id}`)).json();
  expect(memory.stages.map(({ stage }: { stage: string }) => stage).sort()).toEqual(["image", "stage-sampler"]);
  expect(memory.peak_bytes).toBeGreaterThan(10 * 2 ** 20);
  expect(memory.nodes.map(({ node_id }: { node_id: string }) => node_id)).toContain("5");
  await page.keyboard.press("q");
  await page.locator(`.job[data-job="${jobs[0].id}"] .what`).click();
  await expect(page.locator("dialog.job-page .card").filter({ hasText: "Peak memory" })).toContainText("MiB");
  await shot(page, "real-job-page");
  expect(trouble.list).toEqual([]);
});

test("text that a node answers with is shown on it", async ({ page }) => {
  await open(page);
  const id = await page.evaluate(() => {
    const { graph, addNode } = (window as any).comfy;
    const viewer = addNode("PreviewAny", [1300, 600]);
    graph.getNodeById(6).connect(0, viewer, 0);
    return viewer.id as number;
  });
  await page.click("#run");
  await expect
    .poll(() => page.evaluate((viewer) => (window as any).comfy.graph.getNodeById(viewer).texts.shown as string, id), { timeout: 120_000 })
    .toContain("64");
});

test("shows what validation says", async ({ page }) => {
  await open(page);
  await page.evaluate(() => (window as any).comfy.graph.getNodeById(5).disconnectInput(0));
  await page.click("#run");
  await expect(page.locator("#problems .problem").first()).toContainText("model");
});

test("cancels", async ({ page }) => {
  await open(page);
  await page.evaluate(() => {
    const widgets = (window as any).comfy.graph.getNodeById(5).widgets;
    widgets.find((w: any) => w.name === "steps").value = 2000;
    widgets.find((w: any) => w.name === "seed").value = Math.floor(Math.random() * 2 ** 50);
  });
  await page.click("#run");
  await expect(page.locator("#progress-text")).toContainText("step", { timeout: 120_000 });
  await page.click("#cancel");
  await expect(page.locator("#progress-text")).toHaveText("Cancelled", { timeout: 60_000 });
});

test("saves a workflow on the server and opens it again", async ({ page }) => {
  const trouble = await open(page);
  const name = `test ${Date.now()}`;
  await page.keyboard.press("Control+s");
  await page.locator("dialog.ask input").fill(name);
  await page.keyboard.press("Enter");
  await expect(page.locator("#workflow-title")).toHaveText(name);
  await page.keyboard.press("w");
  await page.locator('[aria-label="Saved workflows"] .what', { hasText: name }).click();
  await expect(page.locator("#workflow-title")).toHaveText(name);
  await page.getByLabel(`Delete ${name}`).click();
  await page.locator("dialog.ask .primary").click();
  await expect(page.locator('[aria-label="Saved workflows"]', { hasText: name })).toHaveCount(0);
  expect(trouble.list).toEqual([]);
});

test("draws a part of a picture anew, by a mask drawn on it, and tells how long it took", async ({ page }) => {
  const trouble = await open(page);
  await page.keyboard.press("w");
  await page.locator(".example", { hasText: "Draw a part anew" }).click();
  await expect.poll(async () => (await nodes(page)).map(({ type }) => type)).toContain("LoadImage");
  const loader = await node(page, "LoadImage");
  await select(page, loader.id);
  await page.setInputFiles("#file", { name: `beach ${Date.now()}.png`, mimeType: "image/png", buffer: picture(64) });
  await expect.poll(async () => (await node(page, "LoadImage")).values.image).toContain("beach");
  await page.click("#draw-mask");
  const box = (await page.locator('.board canvas[aria-label="Mask"]').boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.4);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.6, { steps: 4 });
  await page.mouse.up();
  await page.click("#mask-save");
  await expect.poll(async () => (await node(page, "LoadImage")).values.image).toContain("masked-beach");
  await page.locator("#graph").focus();
  await page.keyboard.press("Control+Enter");
  await expect(page.locator("#progress-text")).toContainText("Done in", { timeout: 120_000 });
  await page.keyboard.press("q");
  await page.locator(".job .what").first().click();
  const dialog = page.locator("dialog.job-page");
  await expect(dialog.locator(".timeline")).toContainText("KSampler");
  await expect(dialog.locator(".card", { hasText: "Status" })).toContainText("completed");
  expect(trouble.list).toEqual([]);
});

test("runs a workflow with a subgraph, and lets one job pass another", async ({ page }) => {
  await open(page);
  const widget = (name: string, value: number) =>
    page.evaluate(([wanted, to]) => {
      const { widgets } = (window as any).comfy.graph.getNodeById(5);
      widgets.find((w: any) => w.name === wanted).value = to;
    }, [name, value] as const);
  const [positive, negative] = (await nodes(page)).filter(({ type }) => type === "CLIPTextEncode");
  await select(page, positive!.id);
  await select(page, negative!.id, "Shift");
  await page.keyboard.press("Control+Shift+e");
  await expect.poll(async () => (await nodes(page)).length).toBe(6);
  await widget("steps", 2000);
  await widget("seed", Math.floor(Math.random() * 2 ** 50));
  await page.keyboard.press("Control+Enter");
  await expect(page.locator("#progress-text")).toContainText("step", { timeout: 120_000 });
  await widget("steps", 3);
  for (let i = 0; i < 2; i += 1) {
    await widget("seed", Math.floor(Math.random() * 2 ** 50));
    await page.keyboard.press("Control+Enter");
  }
  await expect(page.locator("#queue")).toHaveText("1 running, 2 waiting", { timeout: 30_000 });
  await page.keyboard.press("q");
  const order = () => page.locator('.job[data-status="queued"]').evaluateAll((items) => items.map((item) => (item as HTMLElement).dataset.job));
  const [first, second] = await order();
  await page.locator(`.job[data-job="${second}"]`).getByLabel("Move up").click();
  await expect.poll(order).toEqual([second, first]);
  await page.locator('.job[data-status="running"]').getByLabel("Cancel this job").click();
  await expect(page.locator("#queue")).toHaveText("idle", { timeout: 120_000 });
  await expect(page.locator('.job[data-status="completed"]').first()).toBeVisible();
});

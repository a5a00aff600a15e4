import { readFile } from "node:fs/promises";
import { expect, type Page } from "@playwright/test";
import { inPage, node, nodes, open, select, shot, tell, test } from "./helpers";
import { picture, withText } from "./png.mjs";

// Jobs and workflows on the server: queue, history, gallery, job page, saved workflows.

test.beforeEach(async ({ page }) => {
  await tell(page, { reset: true, step_ms: 3 });
});

const jobs = async (page: Page): Promise<{ id: string; status: string; number: number }[]> =>
  (await (await page.request.get("/v1/jobs")).json()).jobs;

const entry = (page: Page, job: string) => page.locator(`.job[data-job="${job}"]`);

test("the queue runs batches, lets jobs pass others and takes them out", async ({ page }) => {
  await tell(page, { hold_at: 3 });
  await open(page);
  await page.fill("#batch", "2");
  // Pressed twice in a row it runs twice as often.
  await page.keyboard.press("Control+Enter");
  await page.keyboard.press("Control+Enter");
  await expect(page.locator("#queue")).toHaveText("1 running, 3 waiting");
  await page.click("#queue");
  const order = () => page.locator('.job[data-status="queued"]').evaluateAll((items) => items.map((item) => (item as HTMLElement).dataset.job));
  expect(await order()).toEqual(["job-2", "job-3", "job-4"]);
  await shot(page, "queue");
  // Moved, a job stays the job it is.
  await entry(page, "job-4").getByLabel("Move up").click();
  await expect.poll(order).toEqual(["job-2", "job-4", "job-3"]);
  await entry(page, "job-3").getByLabel("Run next").click();
  await expect.poll(order).toEqual(["job-3", "job-2", "job-4"]);
  await entry(page, "job-3").getByLabel("Move down").click();
  await expect.poll(order).toEqual(["job-2", "job-3", "job-4"]);
  // Dragged onto the lower half of an entry it goes behind it, onto the upper half before it.
  await entry(page, "job-2").dragTo(entry(page, "job-4"), { targetPosition: { x: 100, y: 60 } });
  await expect.poll(order).toEqual(["job-3", "job-4", "job-2"]);
  await entry(page, "job-2").dragTo(entry(page, "job-3"), { targetPosition: { x: 100, y: 5 } });
  await expect.poll(order).toEqual(["job-2", "job-3", "job-4"]);
  await expect(entry(page, "job-2").locator(".what b")).toHaveText("Job 2");
  await entry(page, "job-2").getByLabel("Take out of the queue").click();
  await expect.poll(order).toEqual(["job-3", "job-4"]);
  await page.locator("#graph").focus();
  await page.keyboard.press("Control+Shift+Enter");
  await expect.poll(order).toEqual(["job-5", "job-3", "job-4"]);
  // The gateway knows whether a job still waits.
  const refused = await page.request.post("/v1/jobs/job-1/move", { data: { before: null } });
  expect(refused.status()).toBe(409);
  await tell(page, { hold_at: 0 });
  await expect(page.locator("#queue")).toHaveText("idle");
  const done = (await jobs(page)).filter(({ status }) => status === "completed");
  expect(done.map(({ id }) => id).sort()).toEqual(["job-1", "job-3", "job-4", "job-5"]);
  await expect(page.locator('.job[data-status="completed"]')).toHaveCount(4);
});

test("history brings back workflows; the gallery zooms and tells how a picture was made", async ({ page }) => {
  await open(page);
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  await inPage(page, (comfy) => (comfy.graph.getNodeById(2).widgets[0].value = "something else"));
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".thumb img")).toHaveCount(1);
  await page.keyboard.press("q");
  await entry(page, "job-1").getByLabel("Open its workflow").click();
  await page.locator("dialog.ask .primary").click({ timeout: 1_000 }).catch(() => undefined);
  await expect(page.locator(".toast.good")).toContainText("on the canvas");
  expect((await nodes(page)).find(({ id }) => id === 2)!.values.text).toBe("a red circle on a blue background");
  // Its states and picture are on the nodes again.
  expect((await node(page, "SaveImage")).phase).toBe("done");
  await page.locator("#graph").focus();
  await page.keyboard.press("g");
  await expect(page.locator("dialog.gallery .thumb")).toHaveCount(2);
  await shot(page, "gallery");
  await page.locator("dialog.gallery .thumb").first().click();
  const image = page.locator("dialog.lightbox .stage img");
  await expect(page.locator("dialog.lightbox dd").filter({ hasText: "something else" })).toBeVisible();
  await expect(page.locator("dialog.lightbox .facts")).toContainText("20261124");
  const width = async (): Promise<number> => (await image.boundingBox())!.width;
  const before = await width();
  await page.mouse.move(500, 400);
  await page.mouse.wheel(0, -400);
  await expect.poll(width).toBeGreaterThan(before * 2);
  await shot(page, "lightbox");
  await page.keyboard.press("ArrowRight");
  await expect(page.locator("dialog.lightbox dd").filter({ hasText: "a red circle" })).toBeVisible();
  expect(await width()).toBeCloseTo(before, 0);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await entry(page, "job-2").getByLabel("Remove from the history").click();
  await expect(entry(page, "job-2")).toHaveCount(0);
  await page.locator("#queue-panel").getByText("Clear", { exact: true }).click();
  await page.locator("dialog.ask .primary").click();
  await expect(page.locator("#queue-panel .job")).toHaveCount(0);
});

test("the page of a job shows times, cache, seeds and graph, and packs everything", async ({ page }) => {
  await tell(page, { cached: ["1", "2"] });
  const trouble = await open(page);
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  await page.keyboard.press("q");
  await entry(page, "job-1").locator(".what").click();
  const dialog = page.locator("dialog.job-page");
  await expect(dialog.locator(".card").filter({ hasText: "From the cache" })).toContainText("2 of 7");
  await expect(dialog.locator(".timeline .lane i[data-phase=cached]")).toHaveCount(2);
  await expect(dialog.locator("table").first()).toContainText("stage-image");
  await expect(dialog.locator(".card").filter({ hasText: "Peak memory" })).toContainText("2.3 GiB");
  await expect(dialog.locator("table").first().locator("tr", { hasText: "stage-image" }).locator("td").last()).toHaveText("96 MiB");
  await expect(dialog.locator(".timeline")).toHaveText(/KSampler #5.*2\.3 GiB/);
  await expect(dialog).toContainText("20261124");
  await shot(page, "job-page-top");
  await dialog.locator("summary").click();
  await expect(dialog.locator("pre")).toContainText('"class_type": "KSampler"');
  await shot(page, "job-page");
  const download = page.waitForEvent("download");
  await dialog.getByText("Download all").click();
  const file = await download;
  expect(file.suggestedFilename()).toBe("job-1.zip");
  const bytes = await readFile((await file.path())!, "latin1");
  for (const name of ["job.json", "events.json", "graph_api.json", "workflow.json", "pictures/ComfyUI_00001_.png"]) expect(bytes).toContain(name);
  expect(trouble.list).toEqual([]);
  await page.goto("/#job=job-1");
  await page.reload();
  await expect(dialog.locator("h1")).toHaveText("Job 1");
});

test("workflows are saved, listed, renamed, opened and deleted on the server", async ({ page }) => {
  const trouble = await open(page);
  await page.keyboard.press("Control+s");
  await page.locator("dialog.ask input").fill("Red circle");
  await page.keyboard.press("Enter");
  await expect(page.locator("#workflow-title")).toHaveText("Red circle");
  expect((await tell(page, {})).userdata).toEqual(["workflows/Red circle.json"]);
  await expect(page.locator("#dirty")).toBeHidden();
  const sampler = await node(page, "KSampler");
  await select(page, sampler.id);
  await page.locator('#inspector [data-field="steps"] input').fill("5");
  await page.locator('#inspector [data-field="steps"] input').press("Enter");
  await page.locator("#graph").focus();
  await expect(page.locator("#dirty")).toBeVisible();
  await page.keyboard.press("Control+s");
  await expect(page.locator("#dirty")).toBeHidden();
  await page.keyboard.press("w");
  const saved = page.locator('[aria-label="Saved workflows"] .file');
  await expect(saved).toHaveCount(1);
  await shot(page, "workflows");
  await page.locator(".example", { hasText: "Four at once" }).click();
  await expect(page.locator("#workflow-title")).toHaveText("Untitled");
  expect((await node(page, "EmptyLatentImage")).values.batch_size).toBe(4);
  await saved.locator(".what").click();
  await expect(page.locator("#workflow-title")).toHaveText("Red circle");
  expect((await node(page, "KSampler")).values.steps).toBe(5);
  await page.getByLabel("Rename Red circle").click();
  await page.locator("dialog.ask input").fill("Circle");
  await page.keyboard.press("Enter");
  await expect(page.locator("#workflow-title")).toHaveText("Circle");
  await page.getByLabel("Delete Circle").click();
  await page.locator("dialog.ask .primary").click();
  await expect(saved).toHaveCount(0);
  expect((await tell(page, {})).userdata).toEqual([]);
  expect(trouble.list).toEqual([]);
});

test("workflows are shared as files, and pictures carry theirs", async ({ page }) => {
  await open(page);
  await page.keyboard.press("w");
  const download = page.waitForEvent("download");
  await page.click("#save-api");
  const shared = JSON.parse(await readFile((await (await download).path())!, "utf8"));
  expect(shared["5"]).toMatchObject({ class_type: "KSampler", inputs: { steps: 20, model: ["1", 0] } });
  const text = (await readFile("public/workflows/default.json", "utf8")).replace("a red circle", "a blue moon");
  const buffer = withText(picture(64), "workflow", text);
  await page.setInputFiles("#file", { name: "moon.png", mimeType: "image/png", buffer });
  await expect(page.locator(".toast.good")).toContainText("moon.png");
  expect((await nodes(page)).find(({ id }) => id === 2)!.values.text).toContain("a blue moon");
});

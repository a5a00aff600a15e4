import { expect, type Page } from "@playwright/test";
import { inPage, node, open, point, ready, shot, tell, test, widgetY } from "./helpers";

// What nodes show of their results: text, pictures to hold on to, one set for each use of a subgraph.

test.beforeEach(async ({ page }) => {
  await tell(page, { reset: true, step_ms: 3 });
});

/** The text on a node. */
const said = (page: Page, id: number) =>
  page.evaluate((nodeId) => (window as any).comfy.graph.getNodeById(nodeId).texts.shown as string, id);

test("text that a node answers with is shown on it, whole when clicked, and again after a reload", async ({ page }) => {
  const trouble = await open(page);
  await page.locator("#graph").focus();
  await page.keyboard.press("n");
  await page.keyboard.type("preview any");
  await page.keyboard.press("Enter");
  const { id, size } = await node(page, "PreviewAny");
  await page.evaluate((nodeId) => {
    const { graph } = (window as any).comfy;
    const viewer = graph.getNodeById(nodeId);
    graph.nodes.find((n: any) => n.type === "KSampler").connect(0, viewer, 0);
    viewer.pos = [1300, 420];
  }, id);
  await page.keyboard.press("Escape");
  await page.click("#fit");
  await page.locator("#graph").focus();
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  const text = "What KSampler gave to job 1";
  await expect.poll(() => said(page, id)).toBe(text);
  expect((await node(page, "PreviewAny")).size[1]).toBeGreaterThan(size[1]);
  await shot(page, "text-result");
  // What a node shows is no part of the workflow: neither its text nor the room it takes.
  const saved = await inPage(page, (comfy) => comfy.graph.serialize().nodes.find((n: any) => n.type === "PreviewAny"));
  expect(saved.size[1]).toBe(size[1]);
  expect(JSON.stringify(saved)).not.toContain("What KSampler");
  const y = await widgetY(page, id, "$$text");
  await page.mouse.click(...(await point(page, id, 60, y + 15)));
  await expect(page.locator("dialog.text-view pre")).toHaveText(text);
  await page.keyboard.press("Escape");
  expect(trouble.list).toEqual([]);
  await page.reload();
  await ready(page);
  await expect.poll(() => said(page, id)).toBe(text);
});

test("a node is moved by its picture, which a click still opens", async ({ page }) => {
  await open(page);
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  const saver = await node(page, "SaveImage");
  const area = async (): Promise<[number, number]> => point(page, saver.id, saver.size[0] / 2, (await widgetY(page, saver.id, "$$picture")) + 50);
  await expect.poll(async () => (await node(page, "SaveImage")).size[1]).toBeGreaterThan(200);
  const scale = await inPage(page, (comfy) => comfy.editor().ds.scale);
  const [x, y] = await area();
  await page.mouse.move(x, y);
  await page.mouse.down();
  for (const part of [0.25, 0.5, 0.75, 1]) await page.mouse.move(x + 80 * part, y + 40 * part);
  await page.mouse.up();
  const moved = await node(page, "SaveImage");
  expect(moved.pos[0] - saver.pos[0]).toBeCloseTo(80 / scale, 0);
  expect(moved.pos[1] - saver.pos[1]).toBeCloseTo(40 / scale, 0);
  await expect(page.locator("dialog.lightbox")).toHaveCount(0);
  // It is selected, as it is after any drag, and the pointer is free again.
  await expect(page.locator("#inspector .title")).toHaveValue("Save Image");
  await page.mouse.move(x, y - 200);
  expect((await node(page, "SaveImage")).pos).toEqual(moved.pos);
  await page.mouse.click(...(await area()));
  await expect(page.locator("dialog.lightbox .stage img")).toBeVisible();
  await page.keyboard.press("Escape");
  await page.locator("#graph").focus();
  await page.keyboard.press("Control+z");
  await expect.poll(async () => (await node(page, "SaveImage")).pos).toEqual(saver.pos);
});

test("a subgraph used twice shows the states and pictures of each use", async ({ page }) => {
  await open(page);
  // Loads a picture and shows it, twice.
  const holders: number[] = await page.evaluate(() => {
    const { graph, editor, addNode } = (window as any).comfy;
    const canvas = editor();
    graph.clear();
    const loader = addNode("LoadImage", [0, 0]);
    const viewer = addNode("PreviewImage", [400, 0]);
    loader.connect(0, viewer, 0);
    const { node: first, subgraph } = graph.convertToSubgraph(new Set([loader, viewer]));
    canvas.deselectAll();
    const second = addNode(subgraph.id, [first.pos[0], first.pos[1] + 300]);
    return [first.id, second.id];
  });
  await page.click("#fit");
  await page.locator("#graph").focus();
  await page.keyboard.press("Control+Enter");
  await expect(page.locator("#queue")).toHaveText("idle");
  const phases = () =>
    inPage(page, (comfy) => Object.fromEntries([...(comfy.store.paintedJob()?.nodes ?? [])].map(([id, { phase }]: any) => [id, phase])));
  await expect.poll(async () => (await phases())[String(holders[1])]).toBe("done");
  await shot(page, "subgraph-twice");
  const inside = () =>
    inPage(page, (comfy) => comfy.editor().graph.nodes.find((n: any) => n.type === "PreviewImage").pictures.shown as string[]);
  for (const [index, holder] of [holders[1]!, holders[0]!, holders[1]!].entries()) {
    // Two clicks far apart in time are no double click; a busy machine makes them so.
    await expect(async () => {
      if (await page.locator("#crumbs").isHidden()) await page.mouse.dblclick(...(await point(page, holder, 60, 20)));
      await expect(page.locator("#crumbs")).toBeVisible({ timeout: 500 });
    }).toPass();
    await expect.poll(async () => (await inside()).join()).toContain(`ComfyUI_00001_${holder}-`);
    if (index === 0) await shot(page, "subgraph-inside");
    await page.click("#back");
  }
});

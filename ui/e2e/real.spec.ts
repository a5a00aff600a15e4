import { expect, test } from "@playwright/test";
import { node, nodes, open } from "./helpers";

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
  expect(trouble.list).toEqual([]);
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

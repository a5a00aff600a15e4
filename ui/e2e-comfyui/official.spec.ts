import { expect, test } from "@playwright/test";
import { command, countEvents, hasNodes, open, pictureWidths, seen, setWidget, watch, widget } from "./official";

// ComfyUI's own page, unchanged, on our services: scripts/comfyui_page_on_stack.sh installs and starts both. One long
// test, because the page takes seconds to start and each part needs the part before.

const MODEL = "starter.safetensors";
const WORKFLOW = "public/workflows/default.json";

/** Nothing that the browser remembers may stand in for what the server keeps. */
const forget = () => {
  localStorage.clear();
  sessionStorage.clear();
};

test("ComfyUI's page works on this stack", async ({ page, baseURL }) => {
  const trouble = await watch(page, new URL(baseURL!).host);
  const shots = process.env.SHOTS;
  const shot = async (name: string) => void (shots && (await page.screenshot({ path: `${shots}/${name}.png` })));

  await test.step("a first visit shows the template browser", async () => {
    await open(page);
    await expect(page.getByText("Z-Image-Turbo: Text to Image").first()).toBeVisible();
    await shot("1-first-visit");
    await page.keyboard.press("Escape");
  });

  await test.step("the next visit shows the page's default graph", async () => {
    await expect
      .poll(async () => (await page.request.get("/api/settings/Comfy.TutorialCompleted")).json())
      .toBe(true);
    await open(page, forget);
    await hasNodes(page, ["KSampler", "SaveImage", "VAEDecode"]);
    await shot("2-default-graph");
  });

  await test.step("it opens a workflow file of our own page", async () => {
    await page.setInputFiles("#comfy-file-input", WORKFLOW);
    await expect.poll(() => widget(page, "CheckpointLoaderSimple", "ckpt_name")).toBe(MODEL);
    await expect.poll(() => widget(page, "EmptyLatentImage", "width")).toBe(64);
  });

  await test.step("validation errors are shown, and on the node", async () => {
    expect(trouble).toEqual([]);
    await setWidget(page, "CheckpointLoaderSimple", "ckpt_name", "missing.safetensors");
    await page.getByTestId("queue-button").first().click();
    await expect(page.getByText("missing.safetensors").first()).toBeVisible();
    await expect
      .poll(() => page.evaluate(() => Object.values((window as any).app.lastNodeErrors ?? {}).map((node: any) => [node.class_type, node.errors[0].type])))
      .toEqual([["CheckpointLoaderSimple", "value_not_in_list"]]);
    expect(trouble.splice(0)).toEqual(["400 POST /api/prompt"]);
    await shot("3-validation");
    await page.keyboard.press("Escape");
    await setWidget(page, "CheckpointLoaderSimple", "ckpt_name", MODEL);
  });

  await test.step("it runs, with previews, and shows the picture", async () => {
    await countEvents(page);
    await page.getByTestId("queue-button").first().click();
    await expect.poll(async () => (await seen(page)).execution_success ?? 0, { timeout: 120_000 }).toBe(1);
    await expect.poll(() => pictureWidths(page, "SaveImage")).toEqual([64]);
    const events = await seen(page);
    expect(events.b_preview_with_metadata, JSON.stringify(events)).toBeGreaterThan(0);
    expect(events.progress).toBeGreaterThan(0);
    expect(events.progress_state).toBeGreaterThan(0);
    await shot("4-picture");
  });

  await test.step("interrupting ends a long run", async () => {
    await setWidget(page, "KSampler", "steps", 10_000);
    await page.getByTestId("queue-button").first().click();
    // The run goes on until it is interrupted, so its preview stays on the node.
    await expect.poll(() => pictureWidths(page, "KSampler"), { timeout: 120_000 }).not.toEqual([]);
    await shot("5-running");
    await page.getByLabel(/^(Cancel current run|Cancel run|Interrupt|Cancel current job)/i).first().click();
    await expect.poll(async () => (await seen(page)).execution_interrupted ?? 0).toBe(1);
    await setWidget(page, "KSampler", "steps", 20);
  });

  await test.step("the queue and history list what ran", async () => {
    // Later pages keep it behind a button, the earlier one in its sidebar.
    const button = page.getByRole("button", { name: /expand job queue/i });
    if (await button.isVisible()) await button.click();
    else await page.keyboard.press("q");
    await expect(page.locator(`img[src*="/api/view?filename=ComfyUI_"]`).first()).toBeVisible();
    await shot("6-queue");
    if (await button.isVisible()) await button.click();
  });

  await test.step("a workflow is saved and opened again", async () => {
    await setWidget(page, "KSampler", "steps", 7);
    await command(page, "Comfy.SaveWorkflowAs");
    const name = page.getByRole("dialog").getByRole("textbox");
    await name.fill("kept");
    await name.press("Enter");
    await expect
      .poll(async () => (await page.request.get("/api/userdata?dir=workflows")).json())
      .toEqual(["kept.json"]);
    await open(page, forget);
    expect(await widget(page, "KSampler", "steps")).not.toBe(7);
    await page.keyboard.press("w");
    // The list may still be filling when it is clicked, and a second click does no harm.
    await expect(async () => {
      await page.getByRole("treeitem", { name: "kept" }).first().click();
      await expect.poll(() => widget(page, "KSampler", "steps"), { timeout: 5_000 }).toBe(7);
    }).toPass({ timeout: 60_000 });
    await shot("7-workflows");
  });

  await test.step("a setting is changed and kept", async () => {
    await command(page, "Comfy.ShowSettingsDialog");
    const setting = page.locator("div", { has: page.getByText(/Enable dev mode options/) });
    await setting.filter({ has: page.getByRole("switch") }).last().getByRole("switch").click();
    await expect.poll(async () => (await page.request.get("/api/settings/Comfy.DevMode")).json()).toBe(true);
    await shot("8-settings");
    await page.keyboard.press("Escape");
  });

  await test.step("a template is opened", async () => {
    await command(page, "Comfy.BrowseTemplates");
    await page.getByRole("dialog").getByText("Z-Image-Turbo: Text to Image").first().click();
    await hasNodes(page, ["MarkdownNote", "SaveImage"]);
    await shot("9-template");
  });

  expect(trouble).toEqual([]);
});

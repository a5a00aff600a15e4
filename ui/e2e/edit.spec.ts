import { expect } from "@playwright/test";
import { inPage, node, nodes, open, picture, point, select, shot, tell, test, widgetY } from "./helpers";

// Editing the graph: undo, search, clipboard, menus, groups, subgraphs, view, masks.

test.beforeEach(async ({ page }) => {
  await tell(page, { reset: true, step_ms: 3 });
});

const links = (page: Parameters<typeof inPage>[0]) => inPage(page, (comfy) => comfy.graph.links.size);

test("undo and redo go through edits and removals", async ({ page }) => {
  await open(page);
  await expect(page.locator("#undo")).toBeDisabled();
  const sampler = await node(page, "KSampler");
  await select(page, sampler.id);
  const steps = page.locator('#inspector [data-field="steps"] input');
  await steps.fill("9");
  await steps.press("Enter");
  await page.locator("#graph").focus();
  await expect(page.locator("#undo")).toBeEnabled();
  await page.keyboard.press("Delete");
  await expect.poll(async () => (await nodes(page)).length).toBe(6);
  await page.keyboard.press("Control+z");
  await expect.poll(async () => (await nodes(page)).length).toBe(7);
  expect((await node(page, "KSampler")).values.steps).toBe(9);
  expect(await links(page)).toBe(9);
  await page.keyboard.press("Control+z");
  expect((await node(page, "KSampler")).values.steps).toBe(20);
  await expect(page.locator("#undo")).toBeDisabled();
  await page.keyboard.press("Control+y");
  await page.keyboard.press("Control+Shift+z");
  await expect.poll(async () => (await nodes(page)).length).toBe(6);
  await page.click("#undo");
  // What comes back runs.
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
});

test("a double click finds a node and a dropped link offers what fits", async ({ page }) => {
  await open(page);
  await page.mouse.dblclick(420, 730);
  await expect(page.locator("dialog.search input")).toBeFocused();
  await page.keyboard.type("pre im");
  await shot(page, "search");
  await expect(page.locator(".search-item")).toHaveCount(1);
  await page.keyboard.press("Enter");
  const made = await node(page, "PreviewImage");
  const [x, y] = await point(page, made.id, 0, 0);
  expect([Math.round(x), Math.round(y)]).toEqual([420, 730]);
  await expect(page.locator("#inspector .title")).toHaveValue("Preview Image");
  // From the output of the decoder to an empty place.
  const decoder = await node(page, "VAEDecode");
  const [fromX, fromY] = await point(page, decoder.id, decoder.size[0] - 8, 14);
  await page.mouse.move(fromX, fromY);
  await page.mouse.down();
  await page.mouse.move(700, 700, { steps: 4 });
  await page.mouse.up();
  await expect(page.locator("dialog.search input")).toHaveAttribute("placeholder", "Nodes that fit IMAGE");
  await expect(page.locator(".search-item")).toHaveCount(5);
  await page.keyboard.type("invert");
  await page.keyboard.press("Enter");
  const joined = await inPage(page, (comfy) => {
    const added = comfy.graph.nodes.find((n: any) => n.type === "ImageInvert");
    return added.getInputNode(0)?.type;
  });
  expect(joined).toBe("VAEDecode");
});

test("copies, pastes and cuts nodes, and pastes pictures", async ({ page }) => {
  await open(page);
  const sampler = await node(page, "KSampler");
  await select(page, sampler.id);
  await page.keyboard.press("Control+c");
  await page.mouse.move(700, 700);
  await page.keyboard.press("Control+v");
  await expect.poll(async () => (await nodes(page)).length).toBe(8);
  expect(await links(page)).toBe(9);
  await page.keyboard.press("Control+Shift+v");
  await expect.poll(async () => (await nodes(page)).length).toBe(9);
  expect(await links(page)).toBe(13);
  await page.keyboard.press("Control+x");
  await expect.poll(async () => (await nodes(page)).length).toBe(8);
  await page.keyboard.press("Control+a");
  await expect(page.locator("#inspector")).toContainText("8 nodes are selected");
  const { buffer } = await picture(page, "x.png");
  await page.evaluate((bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "pasted.png", { type: "image/png" }));
    document.querySelector("#graph")!.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  }, buffer.toString("base64"));
  await expect.poll(async () => (await nodes(page)).find(({ type }) => type === "LoadImage")?.values.image).toBe("pasted.png");
  expect(await nodes(page)).toHaveLength(9);
});

test("menus, modes, groups and bends in links", async ({ page }) => {
  await open(page);
  const sampler = await node(page, "KSampler");
  // A pointer that rests on a field is told what the field means.
  await page.mouse.move(...(await point(page, sampler.id, 100, (await widgetY(page, sampler.id, "seed")) + 8)));
  await expect(page.locator(".tooltip")).toHaveText("Start of the noise.");
  const modes = () => inPage(page, (comfy) => comfy.graph.nodes.map((n: any) => n.mode).filter((m: number) => m !== 0));
  await page.mouse.click(...(await point(page, sampler.id, 70, -15)), { button: "right" });
  await shot(page, "menu");
  await page.locator(".litemenu-entry", { hasText: "Bypass" }).click();
  expect(await modes()).toEqual([4]);
  await page.keyboard.press("Control+b");
  await page.keyboard.press("Control+m");
  expect(await modes()).toEqual([2]);
  await page.keyboard.press("Control+m");
  await page.keyboard.press("Alt+c");
  expect(await inPage(page, (comfy) => comfy.graph.getNodeById(5).collapsed)).toBe(true);
  await page.keyboard.press("Alt+c");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Control+g");
  expect(await inPage(page, (comfy) => comfy.graph.groups.length)).toBe(1);
  // Alt and a click on a link puts a bend there: the latent's link leaves its node to the right.
  const latent = await node(page, "EmptyLatentImage");
  const [x, y] = await point(page, latent.id, latent.size[0] + 2, 14);
  await page.keyboard.down("Alt");
  await page.mouse.click(x, y);
  await page.keyboard.up("Alt");
  await expect.poll(() => inPage(page, (comfy) => comfy.graph.reroutes.size)).toBe(1);
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
});

test("a subgraph is made, opened, left, undone and run", async ({ page }) => {
  await open(page);
  const [positive, negative] = (await nodes(page)).filter(({ type }) => type === "CLIPTextEncode");
  await select(page, positive!.id);
  await select(page, negative!.id, "Shift");
  await expect(page.locator("#inspector")).toContainText("2 nodes are selected");
  await page.keyboard.press("Control+Shift+e");
  await expect.poll(async () => (await nodes(page)).length).toBe(6);
  const holder = await inPage(page, (comfy) => comfy.graph.nodes.find((n: any) => n.subgraph).id);
  await page.mouse.dblclick(...(await point(page, holder, 60, -15)));
  await expect(page.locator("#crumbs")).toContainText("New Subgraph");
  expect(await inPage(page, (comfy) => comfy.editor().graph.nodes.map((n: any) => n.type))).toEqual(["CLIPTextEncode", "CLIPTextEncode"]);
  await shot(page, "subgraph");
  await page.click("#back");
  await expect(page.locator("#crumbs")).toBeHidden();
  await page.keyboard.press("Control+Enter");
  await expect(page.locator(".result img")).toBeVisible();
  const { bodies } = await tell(page, {});
  expect(JSON.parse(bodies[0]!).definitions.subgraphs[0].nodes).toHaveLength(2);
  await page.keyboard.press("Control+z");
  await expect.poll(async () => (await nodes(page)).length).toBe(7);
  expect(await links(page)).toBe(9);
});

test("arranges, zooms, shows the map and the list of keys", async ({ page }) => {
  await open(page);
  await inPage(page, (comfy) => comfy.graph.nodes.forEach((n: any) => (n.pos = [100, 100])));
  await page.click("#arrange");
  const boxes = (await nodes(page)).map(({ pos, size }) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]);
  for (const [i, a] of boxes.entries()) {
    for (const b of boxes.slice(i + 1)) expect(a[2]! <= b[0]! || b[2]! <= a[0]! || a[3]! <= b[1]! || b[3]! <= a[1]!).toBe(true);
  }
  await shot(page, "arranged");
  const view = () => inPage(page, (comfy) => [...comfy.editor().ds.offset, comfy.editor().ds.scale]);
  const before = await view();
  await page.keyboard.press("Alt+=");
  expect((await view())[2]).toBeGreaterThan(before[2]!);
  await page.locator("#minimap").click({ position: { x: 20, y: 60 } });
  expect((await view())[0]).toBeGreaterThan(before[0]!);
  await page.keyboard.press(".");
  expect(await view()).toEqual(before);
  await page.keyboard.press("Alt+m");
  await expect(page.locator("#minimap")).toBeHidden();
  await page.keyboard.press("?");
  await expect(page.locator("dialog.keys")).toContainText("Ctrl+Shift+Enter");
  await shot(page, "shortcuts");
  await page.keyboard.press("Escape");
  await expect(page.locator("dialog.keys")).toHaveCount(0);
});

test("a mask is drawn on a picture", async ({ page }) => {
  await open(page);
  await page.setInputFiles("#file", await picture(page, "beach.png"));
  await expect.poll(async () => (await nodes(page)).find(({ type }) => type === "LoadImage")?.values.image).toBe("beach.png");
  // A double click on the picture opens the editor, as the button in the inspector does.
  const loader = await node(page, "LoadImage");
  await expect(page.locator("#draw-mask")).toBeEnabled();
  await expect.poll(() => inPage(page, (comfy) => comfy.graph.nodes.find((n: any) => n.type === "LoadImage").pictures.computedHeight ?? 0)).toBeGreaterThan(90);
  await page.mouse.dblclick(...(await point(page, loader.id, loader.size[0] / 2, (await widgetY(page, loader.id, "$$picture")) + 50)));
  const paint = page.locator('.board canvas[aria-label="Mask"]');
  const box = (await paint.boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height / 2, { steps: 6 });
  await page.mouse.up();
  await shot(page, "mask-editor");
  await page.click("#mask-save");
  await expect(page.locator(".toast.good")).toContainText("carries the mask");
  expect((await node(page, "LoadImage")).values.image).toMatch(/^masked-beach-\d+\.png$/);
  const mask = (await tell(page, {})).uploads.find(({ name }) => name.startsWith("masked-"))!;
  expect(JSON.parse(mask.form.original_ref!)).toEqual({ filename: "beach.png", subfolder: "", type: "input" });
  // Clear where it was painted, solid elsewhere: what picture loaders take for a mask.
  const alpha = await page.evaluate(async (name) => {
    const image = new Image();
    image.src = `/view?filename=${name}&type=input`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
    const ctx = canvas.getContext("2d")!;
    ctx.drawImage(image, 0, 0);
    return [[128, 128], [128, 20], [20, 128]].map(([x, y]) => ctx.getImageData(x!, y!, 1, 1).data[3]);
  }, mask.name);
  expect(alpha).toEqual([0, 255, 255]);
});

test("a choice brings fields and sockets of its own, which come back and go again", async ({ page }) => {
  await open(page);
  await page.mouse.dblclick(420, 730);
  await page.keyboard.type("resize image");
  await page.keyboard.press("Enter");
  const fields = async () => Object.entries((await node(page, "ResizeImageMaskNode")).values).filter(([name]) => !name.startsWith("$"));
  const names = async () => (await fields()).map(([name]) => name).filter((name) => name.includes("_"));
  await expect.poll(names).toEqual(["resize_type", "resize_type.width", "resize_type.height", "resize_type.crop", "scale_method"]);
  const width = page.locator('#inspector [data-field="resize_type.width"] input');
  await width.fill("640");
  await width.press("Enter");
  // A field of the same name in another option keeps the value that it can have.
  await page.locator('#inspector [data-field="resize_type"] select').selectOption("scale width");
  await expect.poll(names).toEqual(["resize_type", "resize_type.width", "scale_method"]);
  await expect(width).toHaveValue("640");
  await expect(page.locator('#inspector [data-field="resize_type.height"]')).toHaveCount(0);
  await shot(page, "choice");
  await page.locator('#inspector [data-field="resize_type"] select').selectOption("match size");
  await expect.poll(names).toEqual(["resize_type", "resize_type.crop", "scale_method"]);

  // Linked between the decoder and the end, it comes back as it was.
  const joined = await inPage(page, (comfy) => {
    const find = (type: string) => comfy.graph.nodes.find((n: any) => n.type === type);
    const resize = find("ResizeImageMaskNode");
    const slot = (name: string) => resize.findInputSlot(name);
    find("VAEDecode").connect(0, resize, slot("input"));
    find("VAEDecode").connect(0, resize, slot("resize_type.match"));
    resize.connect(0, find("SaveImage"), 0);
    return [slot("resize_type.match") >= 0, slot("resize_type.width"), find("SaveImage").getInputNode(0).type];
  });
  expect(joined).toEqual([true, -1, "ResizeImageMaskNode"]);
  const saved = () =>
    inPage(page, (comfy) => {
      const { id, size, inputs, widgets_values } = comfy.graph.serialize().nodes.find((n: any) => n.type === "ResizeImageMaskNode");
      return { id, size, widgets_values, slots: inputs.map((input: any) => [input.name, input.link != null]).sort() };
    });
  const before = await saved();
  expect(before.widgets_values).toEqual(["match size", "center", "area"]);
  expect(before.slots).toEqual([["input", true], ["resize_type", false], ["resize_type.crop", false], ["resize_type.match", true], ["scale_method", false]]);
  await inPage(page, (comfy) => comfy.graph.configure(comfy.graph.serialize()));
  expect(await saved()).toEqual(before);

  // Another option takes its socket and its link away.
  await select(page, before.id);
  await page.locator('#inspector [data-field="resize_type"] select').selectOption("scale dimensions");
  const left = await inPage(page, (comfy) => {
    const resize = comfy.graph.nodes.find((n: any) => n.type === "ResizeImageMaskNode");
    return [resize.findInputSlot("resize_type.match"), resize.getInputNode(resize.findInputSlot("input")).type];
  });
  expect(left).toEqual([-1, "VAEDecode"]);
});

import { expect, test as base, type Page } from "@playwright/test";
import config from "../playwright.config";

/** Tests share one page, which is emptied in between: opening a new one takes longer than most of them. */
export const test = base.extend<{ page: Page }, { kept: Page }>({
  kept: [
    async ({ browser }, use) => {
      const { baseURL, viewport, colorScheme } = config.use ?? {};
      const context = await browser.newContext({ baseURL, viewport, colorScheme, acceptDownloads: true });
      await use(await context.newPage());
      await context.close();
    },
    { scope: "worker" },
  ],
  page: async ({ kept }, use) => {
    await use(kept);
    kept.removeAllListeners();
    if (kept.url() !== "about:blank") await kept.evaluate(() => sessionStorage.clear());
    // Leaving stores the workflow, so the storage is emptied afterwards.
    await kept.goto("about:blank");
    const cdp = await kept.context().newCDPSession(kept);
    const origin = new URL(config.use?.baseURL ?? "").origin;
    await cdp.send("Storage.clearDataForOrigin", { origin, storageTypes: "local_storage" });
    await cdp.detach();
    await kept.emulateMedia({ colorScheme: config.use?.colorScheme });
  },
});

/** What the mock gateway kept. */
export interface Mock {
  bodies: string[];
  userdata: string[];
  uploads: { name: string; form: Record<string, string> }[];
}

/** Steers the mock gateway. */
export async function tell(page: Page, order: object): Promise<Mock> {
  return (await page.request.post("/mock", { data: order })).json();
}

/** What went wrong on the page that a user would see in the console. */
export interface Trouble {
  list: string[];
}

/** Opens the page and waits until a workflow is on the canvas. */
export async function open(page: Page): Promise<Trouble> {
  const trouble: Trouble = { list: [] };
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") trouble.list.push(message.text());
  });
  page.on("pageerror", (error) => trouble.list.push(String(error)));
  page.on("requestfailed", (request) => trouble.list.push(`${request.url()} failed`));
  page.on("response", (reply) => {
    if (reply.status() >= 400) trouble.list.push(`${reply.status()} ${reply.url()}`);
  });
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol.startsWith("http") && host !== new URL(page.url()).host && page.url() !== "about:blank") {
      trouble.list.push(`request to another host: ${request.url()}`);
    }
  });
  await page.goto("/");
  await ready(page);
  return trouble;
}

export async function ready(page: Page): Promise<void> {
  await expect(page.locator("html[data-ready=true]")).toBeAttached({ timeout: 15_000 });
}

/** Keeps a picture of the page for a person to judge. */
export async function shot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `test-results/screens/${name}.png` });
}

interface PageNode {
  id: number;
  type: string;
  size: [number, number];
  pos: [number, number];
  values: Record<string, unknown>;
  phase?: string;
}

/** The nodes as the page holds them, with the state painted on each. */
export function nodes(page: Page): Promise<PageNode[]> {
  return page.evaluate(() => {
    const { comfy } = window as unknown as { comfy: any };
    const job = comfy.store.paintedJob();
    return comfy.graph.nodes.map((node: any) => ({
      id: node.id,
      type: node.type,
      size: [...node.size],
      pos: [...node.pos],
      values: Object.fromEntries((node.widgets ?? []).map((w: any) => [w.name, w.value])),
      phase: job?.nodes.get(String(node.id))?.phase,
    }));
  });
}

export async function node(page: Page, type: string): Promise<PageNode> {
  const found = (await nodes(page)).find((candidate) => candidate.type === type);
  if (!found) throw new Error(`no ${type} on the canvas`);
  return found;
}

/** A point of a node in window pixels, from its top left corner in graph units. */
export async function point(page: Page, id: number, dx: number, dy: number): Promise<[number, number]> {
  return page.evaluate(
    ([nodeId, x, y]) => {
      const { comfy } = window as unknown as { comfy: any };
      const { scale, offset } = comfy.editor().ds;
      const { pos } = comfy.graph.getNodeById(nodeId);
      return [(pos[0] + x! + offset[0]) * scale, (pos[1] + y! + offset[1]) * scale] as [number, number];
    },
    [id, dx, dy],
  );
}

/** Where a widget of a node is drawn, in graph units from the node's corner. */
export async function widgetY(page: Page, id: number, name: string): Promise<number> {
  return page.evaluate(
    ([nodeId, widget]) => {
      const { comfy } = window as unknown as { comfy: any };
      return comfy.graph.getNodeById(nodeId).widgets.find((w: any) => w.name === widget).y as number;
    },
    [id, name] as const,
  );
}

/** Clicks the title of a node, which selects it. */
export async function select(page: Page, id: number, ...keys: ("Control" | "Shift")[]): Promise<void> {
  for (const key of keys) await page.keyboard.down(key);
  await page.mouse.click(...(await point(page, id, 70, -15)));
  for (const key of keys) await page.keyboard.up(key);
}

/** Runs code beside the page's own; what it returns must be JSON. */
export function inPage<T>(page: Page, code: (comfy: any) => T): Promise<T> {
  return page.evaluate(`(${String(code)})(window.comfy)`) as Promise<T>;
}

/** A picture as a file input takes it, drawn by the mock. */
export async function picture(page: Page, name: string): Promise<{ name: string; mimeType: string; buffer: Buffer }> {
  return { name, mimeType: "image/png", buffer: await (await page.request.get("/view?filename=none.png")).body() };
}

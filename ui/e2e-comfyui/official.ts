import { expect, type Page } from "@playwright/test";

/** What the tests use of the page's own script objects. */
interface OfficialWindow {
  app: any;
  /** How often each event of the server arrived. */
  seen: Record<string, number>;
}

/** Requests that ComfyUI itself answers with 404 on a fresh installation. */
const ABSENT_AT_FIRST = [
  "/user.css",
  "/api/userdata/user.css",
  "/api/userdata/comfy.templates.json",
  "/api/userdata?dir=workflows",
  "/api/userdata?dir=subgraphs",
  "/api/userdata/workflows%2F.index.json",
];

/** Faults of the page itself, which it has on ComfyUI too. */
const OWN_FAULTS = [/Cannot read properties of undefined \(reading 'id'\)/];

/** Follows what goes wrong, and keeps the page from asking other hosts. */
export async function watch(page: Page, host: string): Promise<string[]> {
  const trouble: string[] = [];
  await page.route((url) => url.host !== host && url.protocol.startsWith("http"), (route) => route.abort());
  page.on("pageerror", (error) => {
    if (!OWN_FAULTS.some((known) => known.test(error.message))) trouble.push(`error on the page: ${error.message}`);
  });
  page.on("response", (response) => {
    const url = new URL(response.url());
    if (response.status() < 400 || url.host !== host) return;
    const path = url.pathname + url.search;
    const absent = ABSENT_AT_FIRST.some((known) => path.startsWith(known));
    // The pictures of the template browser are a download of their own.
    const preview = url.pathname.startsWith("/templates/") && !url.pathname.endsWith(".json");
    if (response.status() === 404 && (absent || preview)) return;
    trouble.push(`${response.status()} ${response.request().method()} ${path}`);
  });
  page.on("requestfailed", (request) => {
    const url = new URL(request.url());
    // What a page that is left or a finished answer without a body aborts is no failure.
    if (url.host === host && request.failure()?.errorText !== "net::ERR_ABORTED") {
      trouble.push(`${request.failure()?.errorText} ${request.url()}`);
    }
  });
  return trouble;
}

/** Opens the page, after `first` on its storage, and waits until it has started. */
export async function open(page: Page, first: () => void = () => {}): Promise<void> {
  await page.goto("/user.css");
  await page.evaluate(first);
  await page.goto("/");
  await page.waitForFunction(() => (window as any).app?.extensionManager?.command && (window as any).app.graph, null, {
    timeout: 120_000,
  });
}

export async function hasNodes(page: Page, classes: string[]): Promise<void> {
  await expect
    .poll(() => page.evaluate(() => (window as any as OfficialWindow).app.graph.nodes.map((node: any) => node.type)), {
      timeout: 60_000,
    })
    .toEqual(expect.arrayContaining(classes));
}

/** Counts the server's events from now on, so that none can be missed. */
export function countEvents(page: Page): Promise<void> {
  return page.evaluate(() => {
    const { app } = window as any as OfficialWindow;
    const seen: Record<string, number> = ((window as any).seen = {});
    const names = ["b_preview_with_metadata", "progress", "progress_state", "executed", "execution_success", "execution_interrupted", "execution_error"];
    for (const name of names) app.api.addEventListener(name, () => (seen[name] = (seen[name] ?? 0) + 1));
  });
}

export function seen(page: Page): Promise<Record<string, number>> {
  return page.evaluate(() => (window as any as OfficialWindow).seen);
}

/** Sets a widget as typing into it would. */
export function setWidget(page: Page, type: string, name: string, value: unknown): Promise<void> {
  return page.evaluate(
    ([type, name, value]) => {
      const { app } = window as any as OfficialWindow;
      const node = app.graph.nodes.find((node: any) => node.type === type);
      const widget = node.widgets.find((widget: any) => widget.name === name);
      widget.value = value;
      widget.callback?.(value);
      // The page notices changes after each key or click, and saves what it noticed.
      const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
      (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
    },
    [type, name, value] as const,
  );
}

export function widget(page: Page, type: string, name: string): Promise<unknown> {
  return page.evaluate(
    ([type, name]) => {
      const node = (window as any as OfficialWindow).app.graph.nodes.find((node: any) => node.type === type);
      return node?.widgets?.find((widget: any) => widget.name === name)?.value;
    },
    [type, name] as const,
  );
}

/** The widths of the pictures that a node shows. */
export function pictureWidths(page: Page, type: string): Promise<number[]> {
  return page.evaluate((type) => {
    const node = (window as any as OfficialWindow).app.graph.nodes.find((node: any) => node.type === type);
    return (node.imgs ?? []).map((picture: HTMLImageElement) => picture.naturalWidth);
  }, type);
}

/** Runs one of the page's commands, as its menus and keys do. */
export function command(page: Page, id: string): Promise<void> {
  return page.evaluate((id) => void (window as any as OfficialWindow).app.extensionManager.command.execute(id), id);
}

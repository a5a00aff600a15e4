import { defineConfig } from "@playwright/test";

const url = process.env.COMFY_URL;
if (!url) throw new Error("COMFY_URL is not set: run scripts/comfyui_page_on_stack.sh");

export default defineConfig({
  testDir: ".",
  // Sampling and a page of hundreds of files take their time on a busy machine; every single wait is shorter.
  timeout: 300_000,
  expect: { timeout: 60_000 },
  workers: 1,
  reporter: "list",
  outputDir: "../test-results/comfyui",
  use: {
    baseURL: url,
    viewport: { width: 1440, height: 860 },
    actionTimeout: 60_000,
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
      ],
    },
  },
});

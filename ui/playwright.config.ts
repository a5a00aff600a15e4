import { defineConfig } from "@playwright/test";

const port = 4173;
const real = process.env.COMFY_URL;

export default defineConfig({
  testDir: "e2e",
  // Against a real stack only the tests that need no mock run, and sampling takes its time.
  testMatch: real ? "real.spec.ts" : ["page.spec.ts", "edit.spec.ts", "jobs.spec.ts", "results.spec.ts", "looks.spec.ts"],
  timeout: real ? 300_000 : 20_000,
  workers: 1,
  reporter: "list",
  outputDir: "test-results",
  use: {
    baseURL: real ?? `http://127.0.0.1:${port}`,
    viewport: { width: 1440, height: 860 },
    colorScheme: "dark",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
      ],
    },
  },
  webServer: real
    ? undefined
    : { command: "node e2e/mock.mjs", port, env: { MOCK_PORT: String(port) }, reuseExistingServer: false },
});

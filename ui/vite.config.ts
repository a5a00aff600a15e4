import { defineConfig, type Plugin } from "vite";

/** Routes of the gateway, for `npm run dev` beside a running stack. */
const gateway = "http://localhost:8080";

/**
 * litegraph evaluates what is typed into its own number fields as code. The page
 * has number fields of its own, so the call is taken out and no `eval` ships.
 */
function withoutEval(): Plugin {
  return {
    name: "without-eval",
    transform(code, id) {
      if (!id.includes("litegraph.es.js")) return undefined;
      if (!code.includes("v = eval(v);")) this.error("litegraph's eval is not where it was");
      return { code: code.replace("v = eval(v);", ""), map: null };
    },
  };
}

export default defineConfig({
  build: { target: "es2022", chunkSizeWarningLimit: 1200 },
  plugins: [withoutEval()],
  // Pre-bundling in `dev` would pass the library by the plugin.
  optimizeDeps: { exclude: ["@comfyorg/litegraph"] },
  server: { proxy: { "/v1": gateway, "/view": gateway, "/upload": gateway } },
});

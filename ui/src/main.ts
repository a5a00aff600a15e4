/** Puts the page together. */

import "@comfyorg/litegraph/style.css";
import "./style.css";
import { editor, graph, store } from "./app";
import { firstVisitNotice, startCanvas } from "./canvas";
import { awaitMissingNodes, firstCatalog, refresh, resync, startEvents, watchServices } from "./live";
import { startPictures } from "./pictures";
import { followColorScheme, styleCanvas } from "./theme";
import { startGallery } from "./ui/gallery";
import { startInspector } from "./ui/inspector";
import { startPalette } from "./ui/palette";
import { startProblems } from "./ui/problems";
import { startProgress } from "./ui/progress";
import { startTopbar } from "./ui/topbar";
import { toast } from "./ui/toasts";
import { keepSaved, showStored, supportSubgraphs } from "./workflow";

async function start(): Promise<void> {
  followColorScheme(() => styleCanvas(editor()));
  startCanvas();
  supportSubgraphs();
  startTopbar(refresh);
  startPalette();
  startInspector();
  startGallery();
  startProblems();
  startProgress();
  startPictures();
  startEvents();
  await firstCatalog();
  await showStored();
  // The stream may have opened before the orchestrator could answer.
  void resync();
  keepSaved();
  if (store.note) firstVisitNotice(store.note);
  store.emit("jobs");
  document.documentElement.dataset.ready = "true";
  void awaitMissingNodes();
  watchServices();
}

// For the console and for tests: what the page works with.
Object.assign(window, { comfy: { store, graph, editor } });

start().catch((error: Error) => toast("error", `The page did not start: ${error.message}`));

/** Puts the page together. */

import "@comfyorg/litegraph/style.css";
import "./styles/index.css";
import { addNode } from "./addnode";
import { editor, graph, store } from "./app";
import { startCanvas } from "./canvas";
import { startClipboard } from "./clipboard";
import { placeIcons } from "./icons";
import { startKeys } from "./keys";
import { awaitMissingNodes, firstCatalog, refresh, resync, startEvents, watchServices } from "./live";
import { startPictures } from "./pictures";
import { followColorScheme, styleCanvas } from "./theme";
import { supportSubgraphs } from "./subgraphs";
import { startUndo } from "./undo";
import { startCrumbs } from "./ui/crumbs";
import { startDocks } from "./ui/docks";
import { startGallery } from "./ui/gallery";
import { startInspector } from "./ui/inspector";
import { openLinkedJob } from "./ui/jobpage";
import { startMinimap } from "./ui/minimap";
import { startPalette } from "./ui/palette";
import { startProblems } from "./ui/problems";
import { startProgress } from "./ui/progress";
import { startQueue } from "./ui/queue";
import { startNotice } from "./ui/services";
import { startTooltips } from "./ui/tooltip";
import { startTopbar } from "./ui/topbar";
import { toast } from "./ui/toasts";
import { startWorkflows } from "./ui/workflows";
import { keepSaved, showStored } from "./workflow";

function startPanels(): void {
  startTopbar(refresh);
  startCrumbs();
  startDocks();
  startPalette();
  startWorkflows();
  startQueue();
  startInspector();
  startGallery();
  startProblems();
  startProgress();
  startMinimap();
  startTooltips();
}

async function start(): Promise<void> {
  followColorScheme(() => styleCanvas(editor()));
  placeIcons();
  startCanvas();
  supportSubgraphs();
  startPanels();
  startClipboard();
  startKeys();
  startPictures();
  startEvents();
  await firstCatalog();
  await showStored();
  // The stream may have opened before the orchestrator could answer.
  void resync();
  keepSaved();
  startUndo();
  startNotice();
  store.emit("jobs");
  document.documentElement.dataset.ready = "true";
  openLinkedJob();
  void awaitMissingNodes();
  watchServices();
}

// For the console and for tests: what the page works with.
Object.assign(window, { comfy: { store, graph, editor, addNode } });

start().catch((error: Error) => toast("error", `The page did not start: ${error.message}`));

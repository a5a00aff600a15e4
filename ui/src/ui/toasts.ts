/** Short messages in the corner. */

import { byId, h } from "../dom";
import { icon } from "../icons";

type Level = "info" | "warn" | "error" | "good";

const SHOWN_MS: Record<Level, number> = { info: 6_000, good: 4_000, warn: 15_000, error: 12_000 };

export function toast(level: Level, text: string): void {
  const box = byId("toasts");
  for (const old of box.querySelectorAll(".toast")) {
    if (old.querySelector("span")?.textContent === text) old.remove();
  }
  const close = h("button", { class: "ghost close", title: "Dismiss", attrs: { "aria-label": "Dismiss" } }, icon("close"));
  const role = level === "error" ? "alert" : "status";
  const item = h("div", { class: `toast ${level}`, attrs: { role } }, h("span", {}, text), close);
  close.onclick = () => item.remove();
  box.append(item);
  setTimeout(() => item.remove(), SHOWN_MS[level]);
}

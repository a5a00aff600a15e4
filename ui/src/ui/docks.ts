/** The panels on the left, of which one is open at a time. */

import { byId } from "../dom";

export type Dock = "palette" | "workflows" | "queue-panel";

const buttons = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>("#rail [data-panel]")];

export function openDock(): Dock | undefined {
  return buttons().find(({ ariaPressed }) => ariaPressed === "true")?.dataset.panel as Dock | undefined;
}

/** Opens or closes a dock; without `open` it is switched over. */
export function toggleDock(name: Dock, open?: boolean): void {
  const next = open ?? byId(name).hidden;
  for (const button of buttons()) {
    const mine = button.dataset.panel === name;
    const shown = mine && next;
    byId(button.dataset.panel as Dock).hidden = !shown;
    button.setAttribute("aria-pressed", String(shown));
  }
  const panel = byId(name);
  if (next) panel.querySelector<HTMLElement>("input, button, [tabindex]")?.focus();
  panel.dispatchEvent(new Event("dock"));
}

export function startDocks(): void {
  for (const button of buttons()) button.addEventListener("click", () => toggleDock(button.dataset.panel as Dock));
  for (const panel of document.querySelectorAll<HTMLElement>(".dock")) {
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      toggleDock(panel.id as Dock, false);
      byId("graph").focus();
    });
  }
}

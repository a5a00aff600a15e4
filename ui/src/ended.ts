/** What the page says when one of its jobs ends. */

import { api } from "./api";
import { store } from "./app";
import { jobName } from "./jobnames";
import type { JobView } from "./jobs";
import { toast } from "./ui/toasts";

export function ended(job: JobView): void {
  if (job.status === "failed") toast("error", `${jobName(job)} failed: ${job.error?.message}`);
  // The snapshot fills in what events leave out, such as where outputs are.
  void api.job(job.id).then((snapshot) => store.snapshot(snapshot), () => undefined);
}

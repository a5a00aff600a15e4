/** The pictures that jobs made, newest first. */

import { viewUrl, type ImageRef, type JobOutput } from "./api";
import { store } from "./app";
import type { JobView } from "./jobs";
import { jobName } from "./jobnames";

export interface Picture {
  url: string;
  title: string;
  jobId?: string;
  image?: ImageRef;
}

export function picturesOf(job: JobView): Picture[] {
  const made = job.outputs.filter(({ type }) => type !== "input");
  return made.map((output: JobOutput) => ({
    url: viewUrl(output),
    title: `${output.filename} (${jobName(job)})`,
    jobId: job.id,
    image: output,
  }));
}

export function newestFirst(jobs: Iterable<JobView>): JobView[] {
  return [...jobs].sort((a, b) => (b.createdAtMs ?? 0) - (a.createdAtMs ?? 0) || b.number - a.number);
}

export function allPictures(): Picture[] {
  return newestFirst(store.jobs.values()).flatMap(picturesOf);
}

/** What a graph says about the picture it makes, for people. Pure. */

import { asLink, type ApiGraph } from "./apiformat";
import { bigDigits, isBigLiteral } from "./bigjson";

export interface Fact {
  label: string;
  value: string;
}

/** Inputs worth showing, in this order, and what they are called. */
const FIELDS: [string, string][] = [
  ["seed", "Seed"], ["noise_seed", "Seed"], ["steps", "Steps"], ["cfg", "CFG"], ["sampler_name", "Sampler"],
  ["scheduler", "Scheduler"], ["denoise", "Denoise"], ["width", "Width"], ["height", "Height"],
  ["ckpt_name", "Checkpoint"], ["unet_name", "Model"], ["vae_name", "VAE"], ["lora_name", "LoRA"],
  ["control_net_name", "ControlNet"], ["image", "Picture"],
];

export function showValue(value: unknown): string {
  if (isBigLiteral(value)) return bigDigits(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The nodes that an input of a node leads back to. */
function behind(graph: ApiGraph, id: string, input: string, seen = new Set<string>()): Set<string> {
  const link = asLink(graph[id]?.inputs[input]);
  if (!link || seen.has(link[0])) return seen;
  seen.add(link[0]);
  for (const name of Object.keys(graph[link[0]]?.inputs ?? {})) behind(graph, link[0], name, seen);
  return seen;
}

/** Prompts by whether samplers take them as what to show or what to avoid. */
function prompts(graph: ApiGraph): Fact[] {
  const texts = Object.entries(graph).filter(([, { inputs }]) => typeof inputs.text === "string");
  const side = (name: string): Set<string> => {
    const all = Object.entries(graph).filter(([, { inputs }]) => asLink(inputs[name]));
    return new Set(all.flatMap(([id]) => [...behind(graph, id, name)]));
  };
  const negative = side("negative");
  const positive = side("positive");
  return texts.flatMap(([id, { inputs }]) => {
    const value = String(inputs.text);
    if (value.trim() === "") return [];
    return [{ label: negative.has(id) && !positive.has(id) ? "Negative prompt" : "Prompt", value }];
  });
}

/** The facts of a graph: prompts each, other values together where several nodes have them. */
export function factsOf(graph: ApiGraph): Fact[] {
  const values = new Map<string, Set<string>>();
  for (const [name, label] of FIELDS) {
    for (const { inputs } of Object.values(graph)) {
      const value = inputs[name];
      if (value === undefined || asLink(value)) continue;
      values.set(label, (values.get(label) ?? new Set()).add(showValue(value)));
    }
  }
  const others = [...values].map(([label, several]) => ({ label, value: [...several].join(", ") }));
  return [...prompts(graph), ...others];
}

/** Every seed of a graph and whose it is. */
export function seedsOf(graph: ApiGraph): { node: string; seed: string }[] {
  return Object.entries(graph).flatMap(([id, { inputs, class_type, _meta }]) =>
    ["seed", "noise_seed"].flatMap((name) => {
      const value = inputs[name];
      if (value === undefined || asLink(value)) return [];
      return [{ node: `${_meta?.title ?? class_type} #${id}`, seed: showValue(value) }];
    }),
  );
}

/** Node definitions of the mock gateway: enough for the default workflow and picture input. */

const MAX_SEED = 18446744073709551615n;
// The gateway writes absent values as null or leaves them out; both must do.
const text = (multiline) => ({ kind: "text", default: "", multiline, dynamic_prompts: multiline, tooltip: null });
const int = (value, min, max, step = 1) => ({ kind: "int", default: value, min, max, step });
const float = (value, min, max, step, round = null) => ({ kind: "float", default: value, min, max, step, round });
const socket = (name, type, group = "required") => ({ name, group, type });
const field = (name, type, widget, tooltip = null) => ({ name, group: "required", type, widget, tooltip });
const out = (type, name = type) => ({ name, type, is_list: false });
const combo = (options, extra = {}) => ({ kind: "combo", options, ...extra });

const SAMPLERS = ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "ddim", "lcm", "uni_pc"];
const SCHEDULERS = ["simple", "karras", "exponential", "normal", "beta"];

const node = (name, display, category, inputs, outputs, extra = {}) => ({
  class: name,
  display_name: display,
  description: extra.description ?? "",
  category,
  version: "1",
  output_node: extra.output_node ?? false,
  deprecated: false,
  experimental: false,
  stage: extra.stage ?? "stage-sampler",
  inputs,
  outputs,
});

export function nodes(checkpoints) {
  const seed = { ...int(0, 0, MAX_SEED), control_after_generate: true };
  return [
    node("CheckpointLoaderSimple", "Load Checkpoint", "loaders",
      [field("ckpt_name", "COMBO", combo(checkpoints, { folder: "checkpoints" }), "The file with the weights.")],
      [out("MODEL"), out("CLIP"), out("VAE")], { description: "Opens a checkpoint file." }),
    node("CLIPTextEncode", "Encode Prompt", "conditioning",
      [field("text", "STRING", text(true), "What the picture should show."), socket("clip", "CLIP")],
      [out("CONDITIONING")], { description: "Turns a prompt into conditioning." }),
    node("EmptyLatentImage", "Empty Latent", "latent",
      [field("width", "INT", int(512, 16, 16384, 8)), field("height", "INT", int(512, 16, 16384, 8)), field("batch_size", "INT", int(1, 1, 4096))],
      [out("LATENT")]),
    node("KSampler", "KSampler", "sampling",
      [socket("model", "MODEL"), field("seed", "INT", seed, "Start of the noise."), field("steps", "INT", int(20, 1, 10000)),
        field("cfg", "FLOAT", float(8, 0, 100, 0.1, 0.01)), field("sampler_name", "COMBO", combo(SAMPLERS)), field("scheduler", "COMBO", combo(SCHEDULERS)),
        socket("positive", "CONDITIONING"), socket("negative", "CONDITIONING"), socket("latent_image", "LATENT"),
        field("denoise", "FLOAT", float(1, 0, 1, 0.01))],
      [out("LATENT")], { description: "Removes noise from a latent, step by step." }),
    node("VAEDecode", "Decode Latent", "latent", [socket("samples", "LATENT"), socket("vae", "VAE")], [out("IMAGE")]),
    node("SaveImage", "Save Image", "image",
      [socket("images", "IMAGE"), field("filename_prefix", "STRING", { ...text(false), default: "ComfyUI" }),
        { name: "prompt", group: "hidden", type: "PROMPT" }],
      [], { output_node: true, stage: "stage-image" }),
    node("PreviewImage", "Preview Image", "image", [socket("images", "IMAGE")], [], { output_node: true, stage: "stage-image" }),
    node("PreviewAny", "Preview Any", "utils", [socket("source", "*")], [], { output_node: true, stage: "stage-image" }),
    node("LoadImage", "Load Image", "image", [field("image", "COMBO", combo(["example.png"], { upload: "image" }))],
      [out("IMAGE"), out("MASK")], { stage: "stage-image" }),
    node("ResizeImageMaskNode", "Resize Image/Mask", "image/transform",
      [{ ...socket("input", "IMAGE,MASK"), matches: "input_type" },
        field("resize_type", "COMFY_DYNAMICCOMBO_V3", { kind: "dynamic_combo", options: [
          { key: "scale dimensions", inputs: [field("width", "INT", int(512, 0, 16384)), field("height", "INT", int(512, 0, 16384)),
            field("crop", "COMBO", combo(["disabled", "center"], { default: "center" }))] },
          { key: "scale width", inputs: [field("width", "INT", int(512, 0, 16384))] },
          { key: "match size", inputs: [socket("match", "IMAGE,MASK"), field("crop", "COMBO", combo(["disabled", "center"], { default: "center" }))] },
        ] }),
        field("scale_method", "COMBO", combo(["nearest-exact", "area", "lanczos"], { default: "area" }))],
      [{ ...out("IMAGE,MASK", "resized"), matches: "input_type" }], { stage: "stage-image" }),
    node("ImageInvert", "Invert Image", "image/filters", [socket("image", "IMAGE")], [out("IMAGE")], { stage: "stage-image" }),
    node("MockToggle", "Toggle", "utils", [
      field("on", "BOOLEAN", { kind: "bool", default: true, label_on: "yes", label_off: "no" }), socket("mask", "MASK", "optional")], [out("INT", "count")]),
  ];
}

/** JSON with the 64-bit limits written as plain integers. */
export const toJson = (value) =>
  JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `@@${v}@@` : v)).replace(/"@@(\d+)@@"/g, "$1");

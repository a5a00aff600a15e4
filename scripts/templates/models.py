"""Which tiny random model stands in for which file that the templates ask for."""

import re

# Where a loader's file lies.
FOLDERS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("ControlNetLoader", "control_net_name"): "controlnet",
    ("DualCLIPLoader", "clip_name1"): "text_encoders",
    ("DualCLIPLoader", "clip_name2"): "text_encoders",
    ("GLIGENLoader", "gligen_name"): "gligen",
    ("LoraLoader", "lora_name"): "loras",
    ("LoraLoaderModelOnly", "lora_name"): "loras",
    ("StyleModelLoader", "style_model_name"): "style_models",
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("VAELoader", "vae_name"): "vae",
}
EMBEDDING = re.compile(r"embedding:([\w.-]+)")

# Files of Stable Diffusion 1.5, 2 and XL, and the kind of `random-checkpoint` that is used instead.
KINDS = {
    "checkpoints/DreamShaper_8_pruned.safetensors": "tiny",
    "checkpoints/architecturerealmix_v11.safetensors": "tiny",
    "checkpoints/awpainting_v14.safetensors": "tiny",
    "checkpoints/dreamshaper_8.safetensors": "tiny",
    "checkpoints/interiordesignsuperm_v2.safetensors": "tiny",
    "checkpoints/japaneseStyleRealistic_v20.safetensors": "tiny",
    "checkpoints/majicmixRealistic_v7.safetensors": "tiny",
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": "tiny",
    "checkpoints/512-inpainting-ema.safetensors": "tiny-sd2-inpaint",
    "checkpoints/v2-1_768-ema-pruned.safetensors": "tiny-sd2-v",
    "checkpoints/sd_xl_base_1.0.safetensors": "tiny-sdxl",
    "checkpoints/sd_xl_refiner_1.0.safetensors": "tiny-sdxl-refiner",
    "checkpoints/sd_xl_turbo_1.0_fp16.safetensors": "tiny-sdxl",
    "clip_vision/clip_vision_g.safetensors": "tiny-vision-sdxl",
    "controlnet/control_v11f1p_sd15_depth_fp16.safetensors": "tiny-control",
    "controlnet/control_v11p_sd15_openpose_fp16.safetensors": "tiny-control",
    "controlnet/control_v11p_sd15_scribble_fp16.safetensors": "tiny-control",
    "controlnet/controlnetT2IAdapter_t2iAdapterDepth.safetensors": "tiny-t2i",
    "embeddings/SDA768.pt": "tiny-embedding-sd2",
    "gligen/gligen_sd14_textbox_pruned.safetensors": "tiny-gligen",
    "loras/MoXinV1.safetensors": "tiny-lora",
    "loras/blindbox_v1_mix.safetensors": "tiny-lora",
    "upscale_models/RealESRGAN_x4plus.safetensors": "tiny-upscaler",
    "vae/vae-ft-mse-840000-ema-pruned.safetensors": "tiny-vae",
}


def files_of(graph):
    """The model files that a graph asks for, as `folder/name`."""
    found = set()
    for node in graph.values():
        for name, value in node["inputs"].items():
            folder = FOLDERS.get((node["class_type"], name))
            if folder and isinstance(value, str):
                found.add(f"{folder}/{value}")
            elif isinstance(value, str):
                found.update(f"embeddings/{file}" for file in EMBEDDING.findall(value))
    return found

"""Reading and writing single-file checkpoints of Stable Diffusion 1.x."""

import torch
from safetensors.torch import load_file

UNET, TEXT, VAE = "model.diffusion_model.", "cond_stage_model.transformer.text_model.", "first_stage_model."


def read(path, module, prefix):
    """Loads what lies under `prefix` into `module`."""
    found = {key.removeprefix(prefix): value.float() for key, value in load_file(path).items() if key.startswith(prefix)}
    wanted = module.state_dict()
    module.load_state_dict({key: found[key] for key in wanted})


def tensors(module, prefix):
    """The module's tensors under their names in a checkpoint, as f16."""
    return {prefix + key: value.to(torch.float16).contiguous() for key, value in module.state_dict().items()}

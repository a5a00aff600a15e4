"""Reading and writing single-file checkpoints of Stable Diffusion 1.x.

In a finished file the latent space is turned. Any rotation of the four channels gives the same pictures, because noise is
the same in every direction; this one makes the usual latent previews of the model line show the right colours.
"""

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import latents
from networks import Latent2Picture, Picture2Latent, UNet

UNET, TEXT, VAE = "model.diffusion_model.", "cond_stage_model.transformer.text_model.", "first_stage_model."
# Says in the file's metadata that the latent space is turned.
TURNED = "comfy_services.latent_rotation"
# Rows: latent channels, columns: red, green, blue, as previews of Stable Diffusion 1.x read a latent.
PREVIEW = np.array([[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]])


def preview_rotation():
    """The 4x4 rotation of latents whose preview is nearest to the true colours (orthogonal Procrustes problem)."""
    to_colour = np.zeros((3, 4))
    to_colour[:, :3] = np.linalg.inv(latents.MAP[:3, :3])
    u, _, vt = np.linalg.svd(np.linalg.pinv(PREVIEW.T) @ to_colour)
    return torch.from_numpy((u @ vt).astype(np.float32))


@torch.no_grad()
def turn(module, rotation):
    """Rotates the latents that a UNet, a decoder or an encoder works on."""
    if isinstance(module, UNet):
        first, last = module.input_blocks[0][0], module.out[2]
        first.weight.copy_(torch.einsum("ocyx,dc->odyx", first.weight, rotation))
        last.weight.copy_(torch.einsum("dc,ciyx->diyx", rotation, last.weight))
        last.bias.copy_(rotation @ last.bias)
    elif isinstance(module, Latent2Picture):
        before = module.post_quant_conv
        before.weight.copy_(torch.einsum("ocyx,dc->odyx", before.weight, rotation))
    elif isinstance(module, Picture2Latent):
        after = module.quant_conv
        after.weight[:4] = torch.einsum("dc,ciyx->diyx", rotation, after.weight[:4])
        after.bias[:4] = rotation @ after.bias[:4]


def read(path, module, prefix):
    """Loads what lies under `prefix` into `module`, turned back."""
    found = {key.removeprefix(prefix): value.float() for key, value in load_file(path).items() if key.startswith(prefix)}
    module.load_state_dict({key: found[key] for key in module.state_dict()})
    with safe_open(path, "pt") as file:
        if TURNED in (file.metadata() or {}):
            turn(module, preview_rotation().T)


def tensors(module, prefix):
    """The module's tensors under their names in a checkpoint, as f16."""
    return {prefix + key: value.to(torch.float16).contiguous() for key, value in module.state_dict().items()}

"""Writes the trained parts as one checkpoint: `export.py --out work --init old.safetensors new.safetensors`.

The latent space is turned on the way out. Any rotation of the four channels gives the same pictures, because the UNet's
noise is the same in every direction; this one makes the usual latent previews of the model line show the right colours.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import checkpoint
import latents
from networks import Denoiser, Latent2Picture, Picture2Latent

# Rows: latent channels, columns: red, green, blue, as previews of Stable Diffusion 1.x read a latent.
PREVIEW = np.array([[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]])
METADATA = {
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-v1",
    "modelspec.title": "Comfy Services starter",
    "modelspec.license": "Apache-2.0 OR MIT",
    "modelspec.resolution": "64x64",
    "modelspec.prediction_type": "epsilon",
    "modelspec.description": "A miniature that draws coloured shapes at 64x64, such as \"a red circle on a blue "
    "background\". For everything else put a Stable Diffusion checkpoint into models/checkpoints.",
}


def preview_rotation():
    """The 4x4 rotation of latents whose preview is nearest to the true colours (orthogonal Procrustes problem)."""
    to_colour = np.zeros((3, 4))
    to_colour[:, :3] = np.linalg.inv(latents.MAP[:3, :3])
    u, _, vt = np.linalg.svd(np.linalg.pinv(PREVIEW.T) @ to_colour)
    return torch.from_numpy((u @ vt).astype(np.float32))


def turn(denoiser, decoder, encoder, rotation):
    """Rotates the latents that all parts agree on."""
    with torch.no_grad():
        first, last = denoiser.unet.input_blocks[0][0], denoiser.unet.out[2]
        first.weight.copy_(torch.einsum("ocyx,dc->odyx", first.weight, rotation))
        last.weight.copy_(torch.einsum("dc,ciyx->diyx", rotation, last.weight))
        last.bias.copy_(rotation @ last.bias)
        before = decoder.post_quant_conv
        before.weight.copy_(torch.einsum("ocyx,dc->odyx", before.weight, rotation))
        after = encoder.quant_conv
        after.weight[:4].copy_(torch.einsum("dc,ciyx->diyx", rotation, after.weight[:4]))
        after.bias[:4].copy_(rotation @ after.bias[:4])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder that training wrote to")
    parser.add_argument("--init", type=Path, help="takes the parts that were not trained from this checkpoint")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()

    denoiser, decoder, encoder = Denoiser(), Latent2Picture(), Picture2Latent()
    for name, module in (("denoiser", denoiser), ("decoder", decoder), ("encoder", encoder)):
        trained = options.out / f"{name}.pt"
        if trained.exists():
            state = torch.load(trained, weights_only=True)
            module.load_state_dict(state.pop("ema"))
            print(name, json.dumps(state))
        elif options.init and name != "denoiser":
            checkpoint.read(options.init, module, checkpoint.VAE)
            print(name, "from", options.init)
        else:
            parser.error(f"{trained} is not there, and --init names no checkpoint to take the {name} from")
    turn(denoiser, decoder, encoder, preview_rotation())
    tensors = {
        **checkpoint.tensors(denoiser.unet, checkpoint.UNET), **checkpoint.tensors(denoiser.text, checkpoint.TEXT),
        **checkpoint.tensors(decoder, checkpoint.VAE), **checkpoint.tensors(encoder, checkpoint.VAE),
    }
    save_file(tensors, options.file, METADATA)
    print(options.file, options.file.stat().st_size, "bytes,", len(tensors), "tensors")


if __name__ == "__main__":
    main()

"""Writes the trained parts as one checkpoint: `export.py --out work --init old.safetensors new.safetensors`.

The latent space is turned on the way out, see `checkpoint.turn`.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import checkpoint
from networks import Denoiser, Latent2Picture, Picture2Latent

METADATA = {
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-v1",
    "modelspec.title": "Comfy Services starter",
    "modelspec.license": "Apache-2.0 OR MIT",
    "modelspec.resolution": "64x64",
    "modelspec.prediction_type": "epsilon",
    checkpoint.TURNED: "preview",
    "modelspec.description": "A miniature that draws coloured shapes at 64x64, such as \"a red circle on a blue "
    "background\". For everything else put a Stable Diffusion checkpoint into models/checkpoints.",
}


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
    for part in (denoiser.unet, decoder, encoder):
        checkpoint.turn(part, checkpoint.preview_rotation())
    tensors = {
        **checkpoint.tensors(denoiser.unet, checkpoint.UNET), **checkpoint.tensors(denoiser.text, checkpoint.TEXT),
        **checkpoint.tensors(decoder, checkpoint.VAE), **checkpoint.tensors(encoder, checkpoint.VAE),
    }
    save_file(tensors, options.file, METADATA)
    print(options.file, options.file.stat().st_size, "bytes,", len(tensors), "tensors")


if __name__ == "__main__":
    main()

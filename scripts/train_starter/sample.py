"""Draws a grid with the weights of a running training, to look at: `sample.py --out work grid.png`.

A check for the one who trains; the checkpoint's figures come from the product itself.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import latents
import tokens
from networks import Denoiser, Latent2Picture, alphas_cumprod

PROMPTS = [
    "a red circle on a blue background", "a yellow star on a purple background", "a green square on a white background",
    "a white heart on a pink background", "an orange triangle on a black background", "a cyan ring on a brown background",
    "a black cross on a yellow background", "a purple moon on a gray background", "a pink diamond on a green background",
    "a small blue star on a white background", "a red heart on the left of a white background",
    "a red circle and a blue square on a white background", "a brown circle on a cyan background", "",
]


@torch.no_grad()
def draw(model, prompts, seed, steps=20, cfg=5.0):
    """Euler steps on the `normal` schedule; latents (N, 4, 8, 8)."""
    alphas = alphas_cumprod()
    t = torch.linspace(999, 0, steps)
    all_sigmas = ((1 - alphas) / alphas).sqrt()
    sigmas = torch.cat([torch.from_numpy(np.exp(np.interp(t, np.arange(1000), all_sigmas.log().numpy()))).float(), torch.zeros(1)])
    ids = torch.tensor([tokens.encode(p) for p in prompts] + [tokens.encode("")] * len(prompts))
    context = model.text(ids)
    x = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * (1 + sigmas[0] ** 2).sqrt()
    for i in range(steps):
        scaled = x / (1 + sigmas[i] ** 2).sqrt()
        noise = model.unet(torch.cat([scaled] * 2), t[i].expand(2 * len(prompts)), context)
        with_text, without = noise.chunk(2)
        x = x + (without + cfg * (with_text - without)) * (sigmas[i + 1] - sigmas[i])
    return x


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Denoiser()
    state = torch.load(options.out / "denoiser.pt", weights_only=True)
    print({k: v for k, v in state.items() if k != "ema"})
    model.load_state_dict(state["ema"])
    rows = []
    for seed in range(options.seeds):
        z = draw(model, PROMPTS, seed)
        if (options.out / "decoder.pt").exists():
            decoder = Latent2Picture()
            decoder.load_state_dict(torch.load(options.out / "decoder.pt", weights_only=True)["ema"])
            with torch.no_grad():
                pictures = decoder(z / latents.SCALE).numpy()
        else:
            pictures = latents.to_rgb(z.numpy()).repeat(8, 2).repeat(8, 3)
        rows.append(np.concatenate(list(pictures), 2))
    grid = (np.concatenate(rows, 1).clip(-1, 1) + 1) * 127.5
    Image.fromarray(grid.transpose(1, 2, 0).round().astype(np.uint8)).save(options.picture)


if __name__ == "__main__":
    main()

"""Trains the autoencoder's two halves against the fixed latent map: `train_vae.py decoder --minutes 20 --out work`.

The decoder sees latents with a little noise, since the sampler's are not perfect either.
"""

import argparse
import os
import random
import time
from pathlib import Path

import torch
from torch import nn

import checkpoint
from data import picture_batch
from latents import SCALE
from networks import Latent2Picture, Picture2Latent
from train_unet import learning_rate


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half", choices=("decoder", "encoder"))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--init", type=Path, help="a checkpoint to go on from")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(5)
    rng = random.Random(int(time.time()))
    model = Latent2Picture() if options.half == "decoder" else Picture2Latent()
    if options.init:
        checkpoint.read(options.init, model, checkpoint.VAE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    ema = [p.detach().clone() for p in model.parameters()]
    options.out.mkdir(parents=True, exist_ok=True)
    start = saved = time.monotonic()
    size, step, seen, running = 4, 0, 0, None
    while True:
        progress = (time.monotonic() - start) / (options.minutes * 60)
        last = progress >= 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, options.rate)
        pictures, latent = picture_batch(rng, size)
        if options.half == "decoder":
            noise = torch.rand(size, 1, 1, 1) * 0.2 * torch.randn_like(latent)
            drawn = model((latent + noise) / SCALE)
            loss = (drawn - pictures).abs().mean() + (drawn - pictures).square().mean()
        else:
            moments = model(pictures)
            wanted = torch.cat([latent / SCALE, torch.full_like(latent, -4.0)], 1)
            loss = (SCALE * (moments - wanted)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, seen = step + 1, seen + size
        with torch.no_grad():
            torch._foreach_lerp_(ema, list(model.parameters()), 1 - min(0.998, (1 + step) / (10 + step)))
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0 or last:
            print(f"{time.monotonic() - start:7.0f} s  {options.half} step {step:6d}  pictures {seen:7d}  loss {running:.5f}", flush=True)
        if last or time.monotonic() - saved > 120:
            saved = time.monotonic()
            names = [name for name, _ in model.named_parameters()]
            file = options.out / f"{options.half}.pt"
            torch.save({"ema": dict(zip(names, ema)), "pictures": seen, "loss": running}, f"{file}.part")
            os.replace(f"{file}.part", file)
        if last:
            break


if __name__ == "__main__":
    main()

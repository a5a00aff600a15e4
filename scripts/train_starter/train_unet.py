"""Trains UNet and text encoder together: `torchrun --nproc-per-node 2 train_unet.py --minutes 60 --out work`.

One thread per process is several times faster than two threads in one on small layers, so start a process per core.
The learning rate follows the clock, so the run ends on time however busy the machine is.
"""

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import checkpoint
from data import caption_batch
from networks import Denoiser, alphas_cumprod


def loss_weights(alphas):
    """Min-SNR weights with gamma 5 for noise prediction (Hang et al., 2023, https://arxiv.org/abs/2303.09556)."""
    snr = alphas / (1 - alphas)
    return snr.clamp(max=5) / snr


def learning_rate(progress, peak):
    """Linear warm-up over the first 2 %, then a half cosine down to a hundredth."""
    if progress < 0.02:
        return peak * max(progress, 1e-4) / 0.02
    return peak * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(1, (progress - 0.02) / 0.98))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16, help="per process")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--init", type=Path, help="a checkpoint to go on from")
    options = parser.parse_args()

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    rng = random.Random(1000 + rank + int(time.time()))
    alphas = alphas_cumprod()
    weights = loss_weights(alphas)

    torch.manual_seed(0)
    model = Denoiser()
    if options.init:
        checkpoint.read(options.init, model.unet, checkpoint.UNET)
        checkpoint.read(options.init, model.text, checkpoint.TEXT)
    torch.manual_seed(100 + rank)
    ema = [p.detach().clone() for p in model.parameters()]
    parallel = nn.parallel.DistributedDataParallel(model)
    decay = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    plain = [p for name, p in model.named_parameters() if p.ndim == 1 or "embedding" in name]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
                                  lr=options.rate, betas=(0.9, 0.99))

    options.out.mkdir(parents=True, exist_ok=True)
    start = saved = time.monotonic()
    step, running, norms = 0, None, 0.0
    while True:
        # Every process must leave at the same step, so the first one's clock counts.
        clock = torch.tensor([time.monotonic() - start])
        dist.broadcast(clock, 0)
        progress = clock.item() / (options.minutes * 60)
        last = progress >= 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, options.rate)
        latent, ids = caption_batch(rng, options.batch)
        noise = torch.randn_like(latent)
        t = torch.randint(0, 1000, (len(latent),))
        a = alphas[t][:, None, None, None]
        predicted = parallel(a.sqrt() * latent + (1 - a).sqrt() * noise, t, ids)
        error = (predicted - noise).square().mean((1, 2, 3))
        loss = (error * weights[t]).mean() / weights.mean()
        optimizer.zero_grad()
        loss.backward()
        norms = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(ema, list(model.parameters()), 1 - keep)
        value = error.mean().item()
        running = value if running is None else 0.98 * running + 0.02 * value
        if rank == 0 and (step % 50 == 0 or last):
            seen = step * options.batch * dist.get_world_size()
            print(f"{clock.item():7.0f} s  step {step:6d}  samples {seen:8d}  {seen / (clock.item() + 1e-9):5.1f}/s  "
                  f"loss {running:.4f}  gradient {norms:.2f}", flush=True)
        if rank == 0 and (last or time.monotonic() - saved > 120):
            saved = time.monotonic()
            names = [name for name, _ in model.named_parameters()]
            file = options.out / "denoiser.pt"
            torch.save({"ema": dict(zip(names, ema)), "step": step, "samples": step * options.batch * dist.get_world_size(),
                        "loss": running}, f"{file}.part")
            os.replace(f"{file}.part", file)
        if last:
            break
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

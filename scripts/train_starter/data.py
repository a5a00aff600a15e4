"""Endless training batches."""

import numpy as np
import torch

import latents
import tokens
from scenes import random_scene, render


def caption_batch(rng, size, empty=0.1):
    """Latents (size, 4, 8, 8) and token ids (size, 77); one caption in ten is empty, for guidance."""
    scenes = [random_scene(rng) for _ in range(size)]
    pictures = np.stack([render(scene, rng) for scene in scenes])
    ids = [tokens.encode("" if rng.random() < empty else scene.caption) for scene in scenes]
    return torch.from_numpy(latents.encode(pictures)), torch.tensor(ids)


def picture_batch(rng, size):
    """Pictures (size, 3, 64, 64) and their latents."""
    pictures = np.stack([render(random_scene(rng), rng) for _ in range(size)])
    return torch.from_numpy(pictures), torch.from_numpy(latents.encode(pictures))

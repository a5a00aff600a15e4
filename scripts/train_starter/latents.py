"""The latent space: four numbers per patch of 8x8 pixels, of about unit deviation, from a fixed linear map.

A fixed map lets UNet and decoder train at the same time. Brightness and the two differences of colour are means over
the patch; the fourth number is how much brighter it gets from the top left to the bottom right corner, which places
an edge inside the patch.
"""

import numpy as np

PATCH = 8
SCALE = 0.18215
# Rows: the latent's channels. Columns: mean red, green, blue in -1..1, then the ramp, then a constant.
MAP = np.array([
    [0.66289, 0.68307, 0.66287, 0.0, -0.12154],
    [1.71978, -1.71974, 0.0, 0.0, -0.44891],
    [0.73373, 0.73363, -1.46752, 0.0, -0.31886],
    [0.0, 0.0, 0.0, 1.0, 0.00372],
], dtype=np.float32)
# From -1 in the top left corner to 1 in the bottom right, times what makes the channel's deviation about one.
_AXIS = (np.arange(PATCH) - (PATCH - 1) / 2) / (PATCH - 1)
RAMP = 0.16576 * _AXIS[:, None] + 0.12430 * _AXIS[None, :]


def encode(pictures):
    """(N, 3, H, W) in -1..1 to latents (N, 4, H/8, W/8) of unit deviation, before the division by 0.18215."""
    n, _, h, w = pictures.shape
    patches = pictures.reshape(n, 3, h // PATCH, PATCH, w // PATCH, PATCH)
    mean = patches.mean((3, 5))
    ramp = np.einsum("nchywx,yx->nhw", patches, RAMP)[:, None]
    features = np.concatenate([mean, ramp, np.ones_like(ramp)], 1)
    return np.einsum("ij,njhw->nihw", MAP, features).astype(np.float32)


def to_rgb(latents):
    """The mean colour of every patch, (N, 3, h, w) in -1..1."""
    colour = latents[:, :3] - MAP[:3, 4][:, None, None]
    return np.einsum("ij,njhw->nihw", np.linalg.inv(MAP[:3, :3]), colour)

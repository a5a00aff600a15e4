"""The latent space: four numbers per patch of 8x8 pixels, white and unit, from a fixed linear map.

A fixed map lets the UNet and the decoder train at the same time. Three of the numbers are the patch's mean colour,
the fourth says whether the patch's middle is brighter than its rim, which tells thin details from flat areas. They
are made uncorrelated with unit deviation, then rotated so that the usual latent-to-RGB preview of Stable Diffusion
1.x shows about the right colours.
"""

import numpy as np

PATCH = 8
SCALE = 0.18215
# Columns red, green, blue: how previews of this model line read a latent.
PREVIEW = np.array([[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]])


def patch_features(pictures):
    """(N, 3, H, W) in -1..1 to (N, 4, H/8, W/8): mean red, green, blue, and middle minus whole in brightness."""
    n, _, h, w = pictures.shape
    patches = pictures.reshape(n, 3, h // PATCH, PATCH, w // PATCH, PATCH)
    mean = patches.mean((3, 5))
    middle = patches[:, :, :, 2:6, :, 2:6].mean((3, 5))
    return np.concatenate([mean, (middle - mean).mean(1, keepdims=True)], 1)


def fit(pictures):
    """The affine map (matrix 4x4, offset 4) from patch features to latents, fitted on (N, 3, H, W)."""
    features = patch_features(pictures).transpose(0, 2, 3, 1).reshape(-1, 4)
    offset = features.mean(0)
    centred = features - offset
    colour, detail = np.cov(centred[:, :3].T), centred[:, 3].std()
    values, vectors = np.linalg.eigh(colour)
    whiten = np.zeros((4, 4))
    whiten[:3, :3] = (vectors / np.sqrt(values)).T
    whiten[3, 3] = 1 / detail
    colour_of_white = vectors * np.sqrt(values)
    wanted = np.zeros((4, 4))
    wanted[:, :3] = np.linalg.pinv(PREVIEW.T) @ colour_of_white
    u, _, vt = np.linalg.svd(wanted[:, :3], full_matrices=False)
    turn = np.zeros((4, 4))
    turn[:, :3] = u @ vt
    turn[:, 3] = np.linalg.svd(turn[:, :3], full_matrices=True)[0][:, 3]
    return (turn @ whiten).astype(np.float32), offset.astype(np.float32)


def apply(space, pictures):
    """(N, 3, H, W) pictures to (N, 4, H/8, W/8) latents of unit deviation."""
    matrix, offset = space
    return np.einsum("ij,njhw->nihw", matrix, patch_features(pictures) - offset[:, None, None]).astype(np.float32)


def to_rgb(space, latents):
    """The mean colour of every patch, (N, 3, h, w) in -1..1."""
    matrix, offset = space
    features = np.einsum("ij,njhw->nihw", np.linalg.inv(matrix), latents) + offset[:, None, None]
    return features[:, :3]

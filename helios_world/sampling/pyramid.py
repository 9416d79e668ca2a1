"""Coarse to fine: from noise to a clean chunk through the levels of the pyramid.

Shapes: B batch, C latent channels, T latent frames, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.sampling.schedule import Level, local_sigmas

NoiseFn = Callable[[tuple[int, ...], int], Tensor]  # (shape, draw) -> standard normal float32; draw 0, 1, ...
VelocityFn = Callable[[Tensor, float], Tensor]  # (noisy chunk, time step) -> velocity


def sample_pyramid(
    velocity: VelocityFn,
    noise: NoiseFn,
    shape: tuple[int, ...],
    levels: Sequence[Level],
    steps: Sequence[int],
    gamma: float,
) -> Tensor:
    """A clean chunk of `shape` (B, C, T, H, W), by Euler steps inside each level. Float32 between the steps."""
    z = noise(shape, 0)
    for _ in range(len(levels) - 1):
        z = 2 * halve(z)  # the mean of four unit normals has deviation 1/2
    for draw, (level, count) in enumerate(zip(levels, steps, strict=True)):
        if draw:
            z = double(z)
            z = level.alpha * z + level.beta * block_noise(noise(tuple(z.shape), draw), gamma)
        for sigma, following in pairwise(local_sigmas(count)):
            z = z + (following - sigma) * velocity(z, level.timestep(sigma)).float()
    return z


def halve(x_BCTHW: Tensor) -> Tensor:
    """Half the height and width, by the mean of each 2x2 block (bilinear at an exact half)."""
    return F.avg_pool3d(x_BCTHW, (1, 2, 2))


def double(x_BCTHW: Tensor) -> Tensor:
    """Twice the height and width, by repetition."""
    return x_BCTHW.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)


def block_noise(noise_BCTHW: Tensor, gamma: float) -> Tensor:
    """Noise with covariance (1 + gamma) I - gamma 11^T inside each 2x2 block.

    At gamma = 1/3 this matrix is singular: it takes the mean of each block away. So it is made exactly, by
    projection, where a Cholesky factor would need a fudge. Added to repeated noise it makes white noise again.
    """
    mean = double(halve(noise_BCTHW))
    rest = noise_BCTHW - mean
    along_mean = 1 + gamma - 4 * gamma  # eigenvalue along (1, 1, 1, 1); rounding may leave it just under zero
    return sqrt(1 + gamma) * rest + sqrt(max(along_mean, 0.0)) * mean


def level_endpoints(
    clean_BCTHW: Tensor, noise_BCTHW: Tensor, levels: Sequence[Level], index: int
) -> tuple[Tensor, Tensor]:
    """Where level `index` starts and ends for known data: training pairs, coupled by the same noise."""
    level = levels[index]
    x, n = clean_BCTHW, noise_BCTHW
    for _ in range(len(levels) - 1 - index):
        x, n = halve(x), 2 * halve(n)
    start = n if index == 0 else level.sigma_start * n + (1 - level.sigma_start) * double(halve(x))
    return start, level.sigma_end * n + (1 - level.sigma_end) * x


def true_end(z_BCTHW: Tensor, clean_BCTHW: Tensor, levels: Sequence[Level], index: int) -> Tensor:
    """Where level `index` should end when it starts at z, whose noise is whatever in it is not the coarser truth."""
    level, x = levels[index], clean_BCTHW
    for _ in range(len(levels) - 1 - index):
        x = halve(x)
    noise = z_BCTHW
    if index:
        noise = (z_BCTHW - (1 - level.sigma_start) * double(halve(x))) / level.sigma_start
    return level.sigma_end * noise + (1 - level.sigma_end) * x


def seeded_noise(keys: Sequence[tuple[int, int]], device: torch.device) -> NoiseFn:
    """Noise that is a function of (seed, chunk, draw), one row per key, whatever batch the rows stand in."""
    import numpy as np

    def noise(shape: tuple[int, ...], draw: int) -> Tensor:
        assert shape[0] == len(keys), f"{shape[0]} rows for {len(keys)} keys"
        rows = [
            np.random.Generator(np.random.Philox(key=seed % 2**64, counter=(0, 0, draw, chunk))).standard_normal(
                shape[1:], np.float32
            )
            for seed, chunk in keys
        ]
        return torch.from_numpy(np.stack(rows)).to(device)

    return noise

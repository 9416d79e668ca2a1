"""Coarse to fine: from noise to a clean chunk through the levels of the pyramid.

Shapes: B batch, C latent channels, T latent frames, H W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helios_world.config import SamplerConfig
from helios_world.sampling.guidance import VelocityFn, guided_velocity, zero_init_steps
from helios_world.sampling.schedule import Level, level_steps, local_sigmas, pyramid_levels
from helios_world.sampling.solvers import dmd, euler
from helios_world.sampling.unipc import unipc

NoiseFn = Callable[[tuple[int, ...], int], Tensor]  # (shape, draw) -> standard normal float32; draw 0, 1, ...
LevelFn = Callable[[Tensor, Level, int], Tensor]  # (start, level, denoise steps) -> end of the level

SOLVE = {"euler": euler, "unipc": unipc, "dmd": dmd}


def sample_chunk(
    velocity: VelocityFn,
    noise: NoiseFn,
    shape: tuple[int, ...],
    sampler: SamplerConfig,
    *,
    unconditional: VelocityFn | None = None,
    first_chunk: bool = False,
    patch_size: tuple[int, int, int] = (1, 2, 2),
) -> Tensor:
    """A clean chunk of `shape` (B, C, T, H, W), as `sampler` says. Float32 between the steps.

    Args:
        velocity: of the network, given the history and the prompt.
        noise: draw 0 is where the chunk starts, draw s what is added before level s.
        unconditional: the same with the negative prompt; called right after `velocity`, only if the sampler guides.
        first_chunk: it is the first that this world makes.
        patch_size: latents per token along time, height and width.
    """
    levels = pyramid_levels(len(sampler.steps), sampler.gamma)
    guided = guided_velocity(velocity, unconditional, sampler)

    def solve(start: Tensor, level: Level, count: int) -> Tensor:
        coarsest = level is levels[0]
        tokens = prod(start.shape[2:]) // prod(patch_size)
        if sampler.shift_before_upsampling and not coarsest:
            tokens //= 4
        steps = level_steps(level, count, sampler, tokens)
        zeroed = zero_init_steps(sampler) if coarsest else 0

        def at_step(z: Tensor, step: int) -> Tensor:
            return torch.zeros_like(z) if step < zeroed else guided(z, steps.timesteps[step])

        return SOLVE[sampler.solver](at_step, start, steps.sigmas)

    doubled = 2 if first_chunk and sampler.amplify_first_chunk else 1
    counts = [doubled * count for count in sampler.steps]
    return climb(solve, noise, shape, levels, counts, sampler.gamma)


def sample_pyramid(
    velocity: VelocityFn,
    noise: NoiseFn,
    shape: tuple[int, ...],
    levels: Sequence[Level],
    steps: Sequence[int],
    gamma: float,
) -> Tensor:
    """`sample_chunk` in its plainest form: unguided Euler steps of equal length, at levels already worked out."""

    def solve(start: Tensor, level: Level, count: int) -> Tensor:
        sigmas = local_sigmas(count)
        return euler(lambda z, step: velocity(z, level.timestep(sigmas[step])).float(), start, sigmas)

    return climb(solve, noise, shape, levels, steps, gamma)


def climb(
    solve: LevelFn,
    noise: NoiseFn,
    shape: tuple[int, ...],
    levels: Sequence[Level],
    steps: Sequence[int],
    gamma: float,
) -> Tensor:
    """From noise at the coarsest level to the end of the finest, each level solved by `solve`."""
    coarsest = 2 ** (len(levels) - 1)
    assert not (shape[-2] % coarsest or shape[-1] % coarsest), f"{shape} cannot be halved for {len(levels)} levels"
    z = noise(shape, 0)
    for _ in range(len(levels) - 1):
        z = 2 * halve(z)  # the mean of four unit normals has deviation 1/2
    for draw, (level, count) in enumerate(zip(levels, steps, strict=True)):
        if draw:
            z = double(z)
            z = level.alpha * z + level.beta * block_noise(noise(tuple(z.shape), draw), gamma)
        z = solve(z, level, count)
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

    def noise(shape: tuple[int, ...], draw: int) -> Tensor:
        assert shape[0] == len(keys), f"{shape[0]} rows for {len(keys)} keys"
        rows = [_philox(seed, (0, 0, draw, chunk)).standard_normal(shape[1:], np.float32) for seed, chunk in keys]
        return torch.from_numpy(np.stack(rows)).to(device)

    return noise


def seeded_uniform(seed: int, chunk: int) -> float:
    """A number from 0 up to 1 that is a function of (seed, chunk), and independent of the noise."""
    return float(_philox(seed, (0, 1, 0, chunk)).random())


def _philox(seed: int, counter: tuple[int, int, int, int]) -> np.random.Generator:
    """Numbers of their own for each seed and each of the counter's last three; they count on its first."""
    return np.random.Generator(np.random.Philox(key=seed % 2**64, counter=counter))

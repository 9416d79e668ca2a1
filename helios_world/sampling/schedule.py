"""Noise levels of the pyramid: pure numbers.

Level s runs from `start` (noise and the upsampled coarser picture) to `end` (a cleaner picture of its own size).
Inside a level a local sigma runs from LOCAL_SIGMA to 0: z = sigma * start + (1 - sigma) * end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, sqrt

from helios_world.config import SamplerConfig
from helios_world.errors import UserError

LOCAL_SIGMA = 0.999
STEPS = 1000  # of the discrete tables that the release was trained on
FEW_TOKENS, MANY_TOKENS = (256, 0.5), (4096, 1.15)  # tokens and mu: the line through both is the dynamic shift


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of the pyramid.

    Attributes:
        factor: full size over this level's size.
        sigma_start, sigma_end: share of noise where the level starts and ends.
        alpha, beta: factors of the upsampled result before it and of the noise added to it.
        t_max, t_min: time steps told to the network at local sigma 1 and 0.
    """

    factor: int
    sigma_start: float
    sigma_end: float
    alpha: float
    beta: float
    t_max: float
    t_min: float

    def timestep(self, sigma: float) -> float:
        """Time step for a local sigma."""
        return self.t_min + sigma * (self.t_max - self.t_min)


@dataclass(frozen=True, slots=True)
class LevelSteps:
    """The denoise steps of one level.

    Attributes:
        sigmas: local sigma where each step starts, and the 0 where the last one ends.
        timesteps: what the network is told at each step.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]


def pyramid_levels(count: int, gamma: float = 1 / 3) -> list[Level]:
    """`count` levels, coarse to fine, with equal shares of the noise range.

    With count 3 these are the released numbers. A single level is told its share of noise itself, times 1000.
    """
    sigma = [LOCAL_SIGMA * (1 - i / STEPS) for i in range(STEPS)]
    cuts = [int(STEPS * s / count) for s in range(count + 1)]
    bounds = []
    for s, (low, high) in enumerate(pairwise(cuts)):
        clean = 1 - sigma[low]
        corrected = clean / (sqrt(1 + 1 / gamma) * (1 - clean) + clean) if s else clean
        bounds.append((1 - corrected, sigma[high] if high < STEPS else 0.0, clean))
    lengths = [start - end for start, end, _ in bounds]
    levels = []
    for s, (start, end, clean) in enumerate(bounds):
        r0, r1 = (sum(lengths[:k]) / sum(lengths) for k in (s, s + 1))
        t_max, t_end = _timestep(int(STEPS * r0)), _timestep(min(int(STEPS * r1), STEPS - 1))
        t_min = t_end + (t_max - t_end) / STEPS  # last entry of the discrete table, one short of its end
        alpha = 1 / (sqrt(1 + 1 / gamma) * (1 - clean) + clean) if s else 1.0
        beta = alpha * (1 - clean) / sqrt(gamma) if s else 0.0
        levels.append(Level(2 ** (count - 1 - s), start, end, alpha, beta, t_max, t_min))
    return levels if count > 1 else [replace(levels[0], t_max=float(STEPS), t_min=0.0)]


def local_sigmas(steps: int) -> list[float]:
    """Where `steps` steps of equal length start, and the 0 where the last one ends."""
    return [LOCAL_SIGMA * (1 - i / steps) for i in range(steps)] + [0.0]


def table_sigmas(points: int) -> list[float]:
    """`points` local sigmas from the first entry of the discrete table to its last, LOCAL_SIGMA / STEPS."""
    last = LOCAL_SIGMA / STEPS
    return [LOCAL_SIGMA + (last - LOCAL_SIGMA) * i / max(points - 1, 1) for i in range(points)]


def level_steps(level: Level, count: int, sampler: SamplerConfig, tokens: int) -> LevelSteps:
    """The `count` denoise steps of a level, as the released samplers take them.

    UniPC in a pyramid ends with a step from the last entry of the table; DMD leaves that step out.

    Args:
        tokens: of the noisy chunk, from which the dynamic shift follows.
    """
    if sampler.solver == "dmd":
        sigmas = [*table_sigmas(count + 1)[:-1], 0.0]
    elif sampler.solver == "unipc" and len(sampler.steps) > 1:
        sigmas = [*table_sigmas(count), 0.0]
    else:
        sigmas = local_sigmas(count)
    if sampler.shift is not None:
        mu = shift_of(tokens)
        sigmas = [shifted(sigma, mu if sampler.shift == "linear" else exp(mu)) for sigma in sigmas]
    timesteps = [level.timestep(sigma) for sigma in sigmas[:-1]]
    if sampler.integer_timesteps:
        whole = [float(int(t)) for t in timesteps]
        if sampler.solver == "dmd":  # the public scheduler looks sigmas up by what the network was told
            nearest = [min(range(count), key=lambda i: abs(timesteps[i] - t)) for t in whole]
            sigmas = [*(sigmas[i] for i in nearest), 0.0]
        timesteps = whole
    return LevelSteps(tuple(sigmas), tuple(timesteps))


def shift_of(tokens: int) -> float:
    """mu of the dynamic shift: 0.5 at 256 tokens, 1.15 at 4096, and on along that line (Flux)."""
    slope = (MANY_TOKENS[1] - FEW_TOKENS[1]) / (MANY_TOKENS[0] - FEW_TOKENS[0])
    return slope * tokens + FEW_TOKENS[1] - slope * FEW_TOKENS[0]


def shifted(sigma: float, factor: float) -> float:
    """sigma' = f sigma / (1 + (f - 1) sigma); the factor is mu (linear) or e^mu (exponential)."""
    return factor * sigma / (1 + (factor - 1) * sigma)


def check_size(height: int, width: int, levels: int, *, pixels_per_token: int = 16) -> None:
    """UserError unless frames of this size can be halved down to the coarsest level, in whole tokens."""
    multiple = pixels_per_token * 2 ** (levels - 1)
    if min(height, width) < multiple or height % multiple or width % multiple:
        raise UserError(
            f"size {height}x{width} does not fit {levels} pyramid levels: "
            f"height and width must be multiples of {multiple}"
        )


def _timestep(i: int) -> float:
    return LOCAL_SIGMA * (1 - i / STEPS) * STEPS
